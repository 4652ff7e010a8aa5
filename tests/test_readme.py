"""The README's commands and code are run, its files are there, its tables are the recorded ones, in Korean too."""

import json
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
PROMISES = "".join((ROOT / name).read_text() for name in ("PROMISES.md", "docs/data.md"))
KOREAN = (ROOT / "README.ko.md").read_text()
# What both have byte for byte: blocks of code, and tables that the programs wrote.
VERBATIM = re.compile(r"^```\w+$.*?^```$|^<!-- \w+ table -->$.*?^<!-- end of \w+ table -->$", re.DOTALL | re.MULTILINE)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def links(text):
    """Targets of links and, after a `!`, of images."""
    return [mark + target for mark, target in re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", text)]


def interrupted(_):
    raise KeyboardInterrupt


STUDIES = ["ladder", "reproduce_notebooks", "running_variance", "initialisation", "speed"]
COMPARISONS = ["sgd_vs_adam", "sgd_vs_adam_on_fashion", "optimizers"]
COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
ON_A_RUN = [line for line in COMMANDS if re.match("mnist-jax (report|demo|predict|export|import) ", line)]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(line, marks=[pytest.mark.slow] if "experiments/" in line else [])
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
        elif arguments[:1] == ["data"] and arguments[1:]:
            arguments[1:] = [str(toy_folder)]
        elif arguments[:1] not in (["lessons"], ["data"]):
            # As written, but on tiny data and for one epoch: of an option given twice the last counts.
            shorter = (
                ["--lessons" if "sgd_vs_adam" in command else "--lesson", "mlp"]
                if "--quick" in arguments
                else ["--epochs", "1"]
            )
            if command.endswith("speed.py"):
                shorter = ["--lessons", "mlp", "--repeats", "1", "--start-repeats", "0", "--no-scaling", "--peers"]
            elif program == "python" and "--seeds" in arguments:
                shorter += ["--lessons", "mlp"]
            arguments += ["--data", str(toy_folder), "--out", str(tmp_path / "out"), *shorter]
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
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("target", dict.fromkeys(links(README) + links(KOREAN)))
def test_links(target):
    assert target.startswith("https://") or (ROOT / target.removeprefix("!")).exists()


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


@pytest.mark.parametrize("study", [*STUDIES, *COMPARISONS])
def test_tables_are_the_recorded_ones(study):
    """Of a comparison the sentences before its tables."""
    recorded = (ROOT / "experiments" / "results" / study / "README.md").read_text().split("\nEvery point:")[0]
    if study in COMPARISONS:
        recorded = recorded.split("\n\n")[0] + "\n"
    (shown,) = re.findall(rf"<!-- {study} table -->\n\n(.*)\n<!-- end of {study} table -->", README, re.DOTALL)
    assert shown == recorded


@pytest.mark.parametrize("study", [*STUDIES, *COMPARISONS])
def test_recorded_commands_match_the_readme(study):
    file = "speed.json" if study == "speed" else "results.json"
    results = json.loads((ROOT / "experiments" / "results" / study / file).read_text())
    assert f"`{results['config']['command']}`" in README


@pytest.mark.parametrize("test", re.findall(r"`(tests/[\w/]+\.py::\w+)`", PROMISES))
def test_every_promise_names_a_test(test):
    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_named_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"'\.\[(\w+)\]'", README)) <= set(extras)
