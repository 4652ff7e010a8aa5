"""Write what is generated into the documents: recorded tables and findings, and the options of every command.

    python docs/write.py

A block stands between `<!-- NAME table -->` and `<!-- end of NAME table -->`, or the same with another word:

- `NAME table`: experiments/results/NAME/README.md as the study wrote it;
- `NAME headline`: the study's answer in a sentence or two, with the command that recorded it;
- `three findings`: for the READMEs, in the language of each;
- `command options`, `script options`, `shared options`: for docs/commands.md, from what `--help` is made of.

tests/test_docs.py fails where a page differs from what this writes.
"""

import ast
import functools
import importlib.util
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import tyro

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "experiments" / "results"
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"<!-- ([\w-]+) (table|headline|findings|options) -->\n.*?<!-- end of \1 \2 -->", re.DOTALL)


# --- recorded results ---


def recorded(study: str) -> dict[str, Any]:
    """What the study's folder holds in JSON."""
    (file,) = (RECORDED / study).glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def table(study: str) -> str:
    """The study's README.md, without what it has for its figures."""
    return (RECORDED / study / "README.md").read_text().split("\nEvery point:")[0]


def headline(study: str) -> str:
    """The study's answer and the command that recorded it."""
    return f"{answer(study)}\n\nRecorded by `{recorded(study)['config']['command']}`.\n"


def answer(study: str) -> str:
    """What the docstring of the study's script says of it, which tests compare with the results."""
    source = (ROOT / recorded(study)["config"]["command"].split()[1]).read_text()
    docstring = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    for said, of in re.findall(r"(.*?) Recorded in experiments/results/(\w+) by", docstring.partition("Answer")[2]):
        if of == study:
            words = re.sub(r"^.* --out experiments/results/\w+ ", "", said).lstrip(":, ")
            return words[0].upper() + words[1:]
    raise ValueError(f"No docstring says what {study} found.")


def found(pattern: str, text: str) -> tuple[str, ...]:
    """Groups of the pattern; an error if a study no longer says so, because the finding must then be written again."""
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"{pattern!r} is not what the study says; write the finding again.")
    return match.groups()


def reproduced() -> tuple[str, ...]:
    """Number of points, number of curves, smallest p of a curve."""
    return found(
        r"None of the (\d+) published points is outside.*of the (\d+) published curves none is rejected "
        r"\(smallest p ([\d.]+)",
        answer("reproduce_notebooks"),
    )


def leads() -> tuple[str, ...]:
    """Lowest and highest lead of adam with the course's settings; trials; the mean lead after them, its interval."""
    page = (RECORDED / "sgd_vs_adam" / "README.md").read_text()
    course = sorted(map(float, re.findall(r"^\| \w+ \| adam minus sgd \| ([+-][\d.]+) ", page, re.MULTILINE)))
    better, mean, interval, trials = found(
        r"the mean of the six leads: .*, (\w+) is better than \w+ by ([\d.]+) points (\[.*?\]) \((\d+) trials", page
    )
    found("on no net alone do these searches settle", answer("sgd_vs_adam"))
    return f"{course[0]:+.2f}", f"{course[-1]:+.2f}", trials, f"{'+' if better == 'adam' else '-'}{mean}", interval


def speeds() -> tuple[str, ...]:
    """Seconds per epoch, and how many times as long PyTorch takes, in memory and behind a DataLoader."""
    results = recorded("speed")

    def span(values: Iterable[float], digits: int) -> tuple[str, str]:
        low, *_, high = sorted(values)
        return f"{low:.{digits}f}", f"{high:.{digits}f}"

    ratios = results["ratio_to_ours"]
    return (
        *span(results["epoch_seconds"].values(), 2),
        *span(ratios["torch_in_memory"].values(), 1),
        *span(ratios["torch_dataloader"].values(), 1),
    )


ENGLISH = """\
- **The published curves are reproduced.** All {points} values that the course's notebooks printed are within the \
limits fixed beforehand, and none of the {curves} curves is rejected (smallest p {p}). \
[How it was tested](docs/results.md#reproduction)
- **SGD or Adam?** With the course's settings Adam minus SGD is {low} to {high} points of test accuracy, depending on \
the net; after {trials} trials of tuning for each, it is {mean} {interval} on average, but not settled for any single \
net. [All nets](docs/results.md#sgd-or-adam)
- **It is fast.** An epoch takes {fast} to {slow} s on 2 CPU cores; PyTorch takes {memory} to {more_memory} times as \
long with the data in memory, {loader} to {more_loader} times with a DataLoader. On an {device} it takes {gpu} s, and \
PyTorch {gpu_memory} times as long, {gpu_graph} times in a CUDA graph. [Measurements](docs/results.md#speed)
"""
KOREAN = """\
- **공개된 학습 곡선을 재현합니다.** 강의 노트북이 출력한 값 {points}개가 모두 미리 정한 판정 범위 안에 있고, 학습 \
곡선 {curves}개 가운데 기각된 것은 없습니다(가장 작은 p는 {p}). [재현 검증](docs/results.md#reproduction)
- **SGD인가, Adam인가?** 강의의 설정에서는 Adam의 테스트 정확도에서 SGD의 정확도를 뺀 값이 신경망에 따라 {low}%p부터 \
{high}%p까지입니다. 각각 {trials}가지 설정으로 튜닝하면 평균 {mean}%p {interval}이지만, 신경망을 하나씩 보면 어느 쪽이 \
낫다고 볼 근거가 없습니다. \
[모든 신경망](docs/results.md#sgd-or-adam)
- **빠릅니다.** CPU 코어 2개로 한 에포크에 {fast}초부터 {slow}초까지 걸립니다. PyTorch로는 데이터를 메모리에 두면 이 \
시간의 {memory}배부터 {more_memory}배까지, DataLoader를 쓰면 {loader}배부터 {more_loader}배까지 걸립니다. \
{device}에서는 {gpu}초, PyTorch로는 그 {gpu_memory}배, CUDA 그래프를 쓰면 {gpu_graph}배 걸립니다. \
[측정 결과](docs/results.md#speed)
"""


def findings(language: str) -> str:
    """Three findings, a line each."""
    points, curves, p = reproduced()
    low, high, trials, mean, interval = leads()
    fast, slow, memory, more_memory, loader, more_loader = speeds()
    on_gpu = recorded("speed_gpu")
    words = {"en": ENGLISH, "ko": KOREAN}[language]
    return words.format(
        **{"points": points, "curves": curves, "p": p, "low": low, "high": high, "trials": trials, "mean": mean},
        interval=interval,
        **{"fast": fast, "slow": slow, "memory": memory, "more_memory": more_memory},
        **{"loader": loader, "more_loader": more_loader, "device": on_gpu["device"]},
        gpu=f"{on_gpu['epoch_seconds']['adam']:.2f}",
        gpu_memory=f"{on_gpu['ratio_to_ours']['torch_in_memory']['adam']:.0f}",
        gpu_graph=f"{on_gpu['ratio_to_ours']['torch_cuda_graph']['adam']:.1f}",
    )


# --- options ---

SHARED = ("digits", "keeping", "jax")  # groups of options that most commands have


class _Asked(Exception):  # noqa: N818
    """What a `main` would have read from the command line."""


def parser_of(main: Callable[[], None]) -> Any:
    """The argparse parser with which a `main` reads its command line."""

    def asked(kind: Any, **settings: Any) -> None:
        raise _Asked(kind, settings)

    with mock.patch("tyro.cli", asked), mock.patch("sys.argv", ["program"]):
        try:
            main()
        except _Asked as question:
            kind, settings = question.args
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return tyro.extras.get_parser(kind, **settings)


def commands(parser: Any) -> dict[str, Any]:
    """Name -> parser, of its subcommands."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


def groups(parser: Any) -> dict[str, list[Any]]:
    """Group of options -> its options, without those of subcommands."""
    return {
        (group.title or "options").removesuffix(" options"): options
        for group in parser._action_groups
        if (options := [each for each in group._group_actions if not isinstance(each.choices, dict)])
    }


def row(option: Any) -> str:
    """A line of the table of options."""
    words, _, default = str(option.help or "").rpartition(" (default: ")
    words, default = (words, default.removesuffix(")")) if words else (default, "")
    words = words.removesuffix(" (required)").removesuffix(".").strip()
    words = re.sub(
        r"(;|:) one of [\w., ]+, where `contrib\.` may be left out; or",
        r"\1 [any of optax's](optimizers.md), or",
        words,
    )
    words = re.sub(r"; one of constant, [\w, ]+", "; [any of optax's](optimizers.md#schedules)", words)
    names = ", ".join(option.option_strings) or str(option.metavar)
    value = "" if not option.option_strings or option.metavar is None else f" {option.metavar}"
    cells = [f"`{names}{value}`", words, default]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace("  |", " |")


def options_table(options: Iterable[Any]) -> str:
    """Markdown, empty without options."""
    rows = [row(option) for option in options if option.option_strings != ["-h", "--help"]]
    return "\n".join(["| option | what it is | default |", "| --- | --- | --- |", *rows, ""]) if rows else ""


def section(name: str, parser: Any, about: str) -> str:
    """A command: its own options, and which it shares."""
    has = groups(parser)
    own = [each for title in has if not (title in SHARED or title.startswith("lesson")) for each in has[title]]
    of_lesson = [each for title in has if title.startswith("lesson") for each in has[title]]
    words = [f"### {name}", about, options_table(own).strip()]
    if of_lesson:
        words += ["What of the lesson can be changed; defaults are those of `adam`:", options_table(of_lesson).strip()]
    if shared := [f"[{title}](#options-{title})" for title in SHARED if title in has]:
        words.append(f"Shared options: {', '.join(shared)}.")
    return "\n\n".join(word for word in words if word)


def script(path: Path) -> ModuleType:
    """A script as a module."""
    sys.path[:0] = [str(path.parent)] if str(path.parent) not in sys.path else []
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no script.")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where tyro looks for its source
    spec.loader.exec_module(module)
    return module


@functools.cache
def programs() -> dict[str, Any]:
    """Command line -> parser."""
    from mnist_jax.cli.commands import main

    known = {f"mnist-jax {name}": parser for name, parser in commands(parser_of(main)).items()}
    for path in sorted((ROOT / "experiments").glob("*.py")):
        known[path.name] = parser_of(script(path).main)
    return known


def command_options() -> str:
    """Every command of mnist-jax."""
    parts = []
    for name, parser in programs().items():
        if name.startswith("mnist-jax"):
            about = " ".join(str(parser.description).split())
            lessons = commands(parser)
            words = f"{name} LESSON" if lessons else name
            parts.append(section(words, lessons.get("adam", parser), about))
    return "\n\n".join(parts) + "\n"


def script_options() -> str:
    """Every script in experiments/."""
    parts = []
    for name, parser in programs().items():
        if name.endswith(".py"):
            question = str(parser.description).split("\n\n")[0]
            parts.append(section(name, parser, f"[{question}](../experiments/{name})"))
    return "\n\n".join(parts) + "\n"


def shared_options() -> str:
    """Groups of options that several commands have."""
    parts = []
    for title in SHARED:
        options: dict[str, Any] = {}
        for parser in programs().values():
            of_all = commands(parser).get("adam", parser)
            options |= {row(each): each for each in groups(of_all).get(title, ())}
        parts.append(f"### Options: {title}\n\n{options_table(options.values()).strip()}")
    return "\n\n".join(parts) + "\n"


# --- pages ---


def block(name: str, kind: str, language: str) -> str:
    """What belongs into a block."""
    if kind == "findings":
        return findings(language)
    if kind == "options":
        return {"command": command_options, "script": script_options, "shared": shared_options}[name]()
    return {"table": table, "headline": headline}[kind](name)


def written(text: str, language: str) -> str:
    """A page with its blocks as they should be."""

    def replaced(match: re.Match[str]) -> str:
        name, kind = match.groups()
        return f"<!-- {name} {kind} -->\n\n{block(name, kind, language)}\n<!-- end of {name} {kind} -->"

    return BLOCK.sub(replaced, text)


def main() -> None:
    """Write all pages."""
    for page in PAGES:
        page.write_text(written(page.read_text(), "ko" if page.name.endswith(".ko.md") else "en"))


if __name__ == "__main__":
    main()
