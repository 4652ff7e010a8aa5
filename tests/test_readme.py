"""Commands and code in the README and the documents run; the Korean README says the same as the English one."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections import Counter
from importlib.metadata import metadata
from pathlib import Path

import pytest
from helpers import ROOT, script

from mnist_jax import data
from mnist_jax.cli import commands as cli

README = (ROOT / "README.md").read_text()
KOREAN = (ROOT / "README.ko.md").read_text()
# Pages that have commands and code, but for optimizers.md, whose blocks continue each other.
PAGES = ["README.md", "docs/commands.md", "docs/results.md", "docs/cluster.md", "docs/design.md", "docs/teaching.md"]
# What both READMEs have byte for byte: blocks of code, and tables that the programs wrote.
VERBATIM = re.compile(r"^```\w+$.*?^```$|^<!-- \w+ table -->$.*?^<!-- end of \w+ table -->$", re.DOTALL | re.MULTILINE)


def blocks(language):
    """The blocks of all pages, each once."""
    texts = [(ROOT / page).read_text() for page in PAGES]
    return list(
        dict.fromkeys(block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL))
    )


def links(text):
    """Targets of links and, after a `!`, of images."""
    return [mark + target for mark, target in re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", text)]


def interrupted(_):
    raise KeyboardInterrupt


COMMANDS = list(dict.fromkeys(line for block in blocks("sh") for line in block.splitlines() if line.strip()))
EXERCISES = set((ROOT / "docs" / "teaching.md").read_text().splitlines())
ON_A_RUN = [line for line in COMMANDS if re.match("mnist-jax (report|demo|predict|export|import) ", line)]


def on_tiny_data(command, arguments, digits, out):
    """The arguments of a command, for one epoch of tiny data: of an option given twice the last counts."""
    if arguments[:1] == ["lessons"]:
        return arguments
    if arguments[:1] == ["data"]:
        return ["data", *[digits for _ in arguments[1:]]]
    if arguments[:1] == ["verify"]:
        return [*arguments, "--lessons", "mlp"]
    shorter = ["--epochs", "1"]
    if "--quick" in arguments:
        shorter = ["--lessons" if "sgd_vs_adam" in command else "--lesson", "mlp"]
    if command.endswith("speed.py"):
        shorter = ["--lessons", "mlp", "--repeats", "1", "--start-repeats", "0", "--no-scaling", "--peers"]
    elif command.startswith("python") and "--seeds" in arguments:
        shorter += ["--lessons", "mlp"]
    return [*arguments, "--data", digits, "--out", out, *shorter]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(line, marks=[pytest.mark.slow] if "experiments/" in line or line in EXERCISES else [])
        for line in COMMANDS
        if line not in ON_A_RUN
    ],
)
def test_commands(command, run_main, toy_folder, tmp_path, monkeypatch):
    program, *arguments = shlex.split(command)
    if program == "make":
        make = shutil.which("make")
        subprocess.run([make, "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program == "pip":
        assert arguments[:-1] == ["install", "--constraint", "requirements.lock"]
        name, extra = re.fullmatch(r"(\w+)\[(\w+)\]", arguments[-1]).groups()
        assert extra in metadata(name).get_all("Provides-Extra")
    elif program == "source":
        assert arguments == [".venv/bin/activate"]
    else:
        main = cli.main if program == "mnist-jax" else script(Path(arguments.pop(0)).stem).main
        if "--prepare" in arguments:
            monkeypatch.setattr("mnist_jax.data.tfds.prepare", lambda *_: "prepared")
        else:
            arguments = on_tiny_data(command, arguments, str(toy_folder), str(tmp_path / "out"))
        status, _, err = run_main(main, *arguments)
        assert (status, err) == (0, "")


@pytest.mark.parametrize("command", ON_A_RUN)
def test_commands_on_a_run(command, run_main, toy_ladder, tmp_path, monkeypatch):
    _, *arguments = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy_ladder, tmp_path / "runs" / "ladder")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    if arguments[0] == "import":
        run_main(cli.main, "export", "latest", "--format", "safetensors", "--out", arguments[1])
        arguments += ["--data", str(toy_ladder.parent / "toy")]
    if arguments[0] == "demo":
        monkeypatch.setattr("mnist_jax.views.demo.Server.serve_forever", interrupted)
        arguments += ["--port", "0"]
    status, out, err = run_main(cli.main, *arguments)
    assert (status, err) == (0, "")
    assert out


@pytest.mark.parametrize("code", blocks("python"))
@pytest.mark.usefixtures("own_optimizers")
def test_code(code, toy_folder, monkeypatch):
    load = data.load
    monkeypatch.setattr(data, "load", lambda source: load(str(toy_folder)))
    exec(compile(code, "a page", "exec"), {})


def test_readme_is_short():
    assert len(README.splitlines()) <= 130
    assert len(KOREAN.splitlines()) <= 130


def test_korean_has_the_same_code_and_recorded_tables():
    assert VERBATIM.findall(KOREAN) == VERBATIM.findall(README)


def test_korean_has_the_same_links_and_images():
    (korean, *ours), (english, *theirs) = links(README), links(KOREAN)
    assert (korean, english) == ("README.ko.md", "README.md")
    assert ours == theirs


def test_korean_has_the_same_headings():
    levels = [re.findall(r"^#+ ", VERBATIM.sub("", text), re.MULTILINE) for text in (README, KOREAN)]
    assert levels[0] == levels[1]


def test_korean_prose_has_the_same_names_and_all_numbers():
    ours, theirs = (VERBATIM.sub("", text) for text in (README, KOREAN))
    names, numbers = r"`[^`\n]+`", r"\d+(?:[.,]\d+)*"
    assert Counter(re.findall(names, ours)) == Counter(re.findall(names, theirs))
    # Korean may also write as digits what English writes as a word.
    assert not Counter(re.findall(numbers, ours)) - Counter(re.findall(numbers, theirs))


def test_named_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"'\.\[(\w+)\]'", (ROOT / "docs" / "commands.md").read_text()))
    assert named
    assert named <= set(extras)
