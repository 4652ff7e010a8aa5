"""The command `mnist-jax`: train the lessons, and look at, use and exchange trained nets."""

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from mnist_jax.cli.arguments import (
    DataArguments,
    DataDir,
    JaxArguments,
    KeepingArguments,
    LessonId,
    OutFolder,
    SharedJaxArguments,
    SplitOption,
    default_is,
    parsed,
    subcommands,
)
from mnist_jax.cli.digits import digits_of, show_path, show_sources
from mnist_jax.cli.lesson_flags import ChosenLesson
from mnist_jax.cli.program import exit_on_user_error
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.study import run_lessons
from mnist_jax.cli.terminal import load_data, make_console, table
from mnist_jax.data import tfds
from mnist_jax.errors import UserError, expand_user
from mnist_jax.lessons import DIGITS, LESSONS, what_changed
from mnist_jax.nets.exchange import Format, exported, keep_imported, read_safetensors
from mnist_jax.nets.trained import class_names, find_nets, probabilities, read_nets, read_run, run_folder
from mnist_jax.runs.files import RESULTS, new_file, write_file
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.runs.provenance import command_line
from mnist_jax.studies import published, verification
from mnist_jax.views.languages import Language
from mnist_jax.views.verification import CHECKS, assumptions, check_rows, conclusion
from mnist_jax.views.words import data_words

RunFolder = tyro.conf.Positional[
    Annotated[Path, tyro.conf.arg(help="folder of a run, or `latest` for the newest in runs")]
]
LessonOfRun = Annotated[LessonId | None, tyro.conf.arg(help="lesson of the net"), default_is("the last of the run")]
SeedOfRun = Annotated[int | None, tyro.conf.arg(help="seed of the net's run"), default_is("the first")]


def lessons() -> None:
    """List the six lessons: what each is and what it changes."""
    rows = [
        [
            lesson_id,
            what_changed(lesson_id),
            " -> ".join(map(str, lesson.widths)),
            lesson.activation,
            f"{lesson.dropout_rate:g}",
            "on" if lesson.batch_norm else "off",
            lesson.initialisation,
            str(lesson.optimizer),
            published.notebook(lesson_id).split("_")[0],
        ]
        for lesson_id, lesson in LESSONS.items()
    ]
    header = [
        "lesson", "changes", "layers", "activation", "dropout", "batch norm", "initialisation", "optimizer", "notebook",
    ]  # fmt: skip
    make_console().print(table("The ladder", header, rows))


def train(
    lesson: ChosenLesson,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    devices_per_run: int = 1,
    split: SplitOption = "slides",
    digits: DataArguments = DataArguments(),
    keeping: KeepingArguments = KeepingArguments(),
    jax: SharedJaxArguments = SharedJaxArguments(),
) -> None:
    """Train one lesson, with any of its settings changed.

    Args:
      epochs: number of epochs.
      seed: random seed of initial weights, order of examples and dropout.
      devices_per_run: number of devices over which the hidden units are split, for nets too large for one.
    """
    lesson_id, make = lesson
    chosen = make()
    start_jax(jax)
    loaded = digits.load(split)
    console = make_console()
    folder, results = run_lessons(
        "train",
        {lesson_id: chosen},
        loaded,
        keeping,
        console,
        seeds=[seed],
        epochs=epochs,
        devices_per_run=devices_per_run,
    )
    entry = results["lessons"][lesson_id]
    accuracy = entry["test_correct"][0][-1] / loaded.test.size
    ending = "diverged" if entry["diverged"][0] else f"test accuracy {accuracy:.2%}"
    console.print(f"{lesson_id}: {ending}, on {data_words(loaded.describe())}", style="bold", soft_wrap=True)
    console.print(f"wrote {folder / RESULTS}", soft_wrap=True)


def data(
    path: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[PATH]", help_behavior_hint="")]] = None,
    /,
    *,
    data_dir: DataDir = None,
    manual_dir: Annotated[Path | None, default_is("none")] = None,
    prepare: bool = False,
) -> None:
    """Show what a file or folder is taken for and its first digits; without one, what TFDS and the sample have.

    Args:
      path: a file or folder with digits, tfds:NAME, or sample.
      manual_dir: a folder with the files that TFDS would download, to prepare from without a network.
      prepare: let TFDS download (unless the files are at hand) and prepare mnist, or tfds:NAME.
    """
    console = make_console()
    if prepare:
        name = tfds.name_of(path or "tfds")
        if name is None:
            raise UserError(f"--prepare prepares a data set of TFDS, such as tfds:fashion_mnist, not {path}.")
        with console.status(f"TFDS prepares {name}; this takes about half a minute"):
            where = tfds.prepare(name, data_dir, manual_dir)
        console.print(f"TFDS holds {name} in {where}", soft_wrap=True)
    if path is None:
        show_sources(data_dir, console)
    else:
        show_path(path, data_dir, console)


def report(
    run: RunFolder,
    /,
    *,
    data: Annotated[str | None, default_is("where they were")] = None,
    data_dir: DataDir = None,
    seed: SeedOfRun = None,
    language: Language = "en",
    out: Annotated[Path | None, default_is("report.html in the run's folder, written again")] = None,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Write a report on a run or a study: its tables and curves, and what each net does and gets wrong.

    Args:
      data: source of the digits that it was tested on, as for train.
      language: language of the page, English or Korean.
      out: file to write, which must not exist yet.
    """
    from mnist_jax.views.report import report_page

    start_jax(jax)
    folder = run_folder(run)
    with contextlib.ExitStack() as stack:
        write: Callable[[bytes], None] = functools.partial(write_file, folder / "report.html")
        if out is not None:
            write = stack.enter_context(new_file(out))
        results = read_run(folder)
        nets = find_nets(folder) if seed is None else read_nets(folder, seed=seed)
        test = digits_of(results, data, data_dir).test if nets else None
        page = report_page(folder, results, nets, test, language)
        write(page.encode(errors="replace"))  # a path in it may not be UTF-8
    out = out or folder / "report.html"
    make_console().print(f"wrote {out}; open it in a browser", soft_wrap=True)


def predict(
    run: RunFolder,
    images: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="(at least one)")]
    ],
    /,
    *,
    lesson: LessonOfRun = None,
    seed: SeedOfRun = None,
    json: bool = False,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Recognise the digit in a picture.

    Args:
      images: PNG or JPEG files with one digit each, of any size, dark on light or light on dark.
      json: print JSON for machines.
    """
    from mnist_jax.nets.images import read_digit

    if not images:
        raise UserError("Name at least one picture, a PNG or JPEG file.")
    start_jax(jax)
    digits = np.stack([read_digit(expand_user(image)) for image in images])
    folder = run_folder(run)
    net = read_nets(folder, lesson_id=lesson, seed=seed)[-1]
    classes = class_names(read_run(folder))
    found = probabilities(net, digits)
    answers = found.argmax(1).tolist()
    if json:
        entries = [
            {"image": str(image), "lesson": net.lesson_id, "seed": net.seed, "digit": digit, "probabilities": row}
            for image, digit, row in zip(images, answers, found.tolist(), strict=True)
        ]
        print(dumps(entries, indent=1))
        return
    rows = [
        [str(image), classes[digit], *(f"{100 * value:.1f}" for value in row)]
        for image, digit, row in zip(images, answers, found, strict=True)
    ]
    each = "digit" if classes == DIGITS else "class"
    what = f"Probability of each {each} in percent, by the net of {net}, {folder.name}"
    make_console().print(table(what, ["image", "answer", *classes], rows))


def demo(
    run: RunFolder,
    /,
    *,
    seed: SeedOfRun = None,
    port: int = 8000,
    language: Language = "en",
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Draw a digit in the browser and see what each lesson's net makes of it.

    Args:
      port: port of the page on this machine; 0 for any free one.
      language: language of the page, English or Korean.
    """
    from mnist_jax.views.demo import Server

    start_jax(jax)
    folder = run_folder(run)
    console = make_console()
    with console.status(f"loading the nets of {folder.name}"):
        nets, classes = read_nets(folder, seed=seed), class_names(read_run(folder))
    with contextlib.suppress(KeyboardInterrupt), Server(nets, classes, port, folder.name, language) as server:
        console.print(f"Open {server.url} in a browser; Ctrl-C ends it.", soft_wrap=True)
        server.serve_forever()


def export(
    run: RunFolder,
    /,
    *,
    format: Format,
    out: Path,
    lesson: LessonOfRun = None,
    seed: SeedOfRun = None,
) -> None:
    """Write a trained net for other programs.

    Args:
      format: safetensors (with the notebooks' PyTorch names) or stablehlo (of `jax.export`).
      out: file to write, which must not exist yet.
    """
    start_jax(JaxArguments())
    with new_file(out) as write:
        net = read_nets(run_folder(run), lesson_id=lesson, seed=seed)[-1]
        write(exported(net, format))
    make_console().print(f"wrote {out}: the net of {net}", soft_wrap=True)


def import_(
    file: tyro.conf.Positional[Path],
    /,
    *,
    lesson: LessonId,
    digits: DataArguments = DataArguments(),
    out: OutFolder = None,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Make a run from a PyTorch net, saved with `safetensors.torch.save_file(net.state_dict(), FILE)`.

    Args:
      file: safetensors with the notebooks' names, fc1.weight and so on, as `mnist-jax export` writes them.
      lesson: lesson of the net.
      out: folder for the run, new or without one.
    """
    start_jax(jax)
    file = expand_user(file)
    net = read_safetensors(file, lesson)
    loaded = digits.load("notebooks")
    folder, results = keep_imported(net, file, loaded, out, command_line("mnist-jax"))
    (correct,) = results["lessons"][lesson]["test_correct"][0]
    console = make_console()
    console.print(
        f"{lesson}: test accuracy {correct / loaded.test.size:.2%}, on {data_words(results['data'])}",
        style="bold",
        soft_wrap=True,
    )
    console.print(f"wrote {folder / RESULTS}", soft_wrap=True)


def verify(*, lessons: tuple[LessonId, ...] = tuple(LESSONS), jax: JaxArguments = JaxArguments()) -> None:
    """Check that this installation computes correctly on this device; exit status 1 if not.

    It trains each lesson for 200 steps and compares them with recorded steps of PyTorch and of this project.

    Args:
      lessons: lessons to train.
    """
    if not lessons:
        raise UserError("Name at least one lesson after --lessons.")
    start_jax(jax)
    digits = load_data("sample", "slides", None)
    verification.check_comparable(digits)
    console, dtypes = make_console(), verification.dtypes()
    found = {}
    for lesson_id, dtype in itertools.product(dict.fromkeys(lessons), dtypes):
        with console.status(f"{lesson_id} in {dtype}"):
            lesson = dataclasses.replace(LESSONS[lesson_id], dtype=dtype)
            found[lesson_id, dtype] = verification.compare(lesson_id, lesson, digits)
    console.print(table(f"First {verification.STEPS} steps", CHECKS, check_rows(found)))
    console.print(assumptions(dtypes), soft_wrap=True)
    console.print(conclusion(found), style="bold", soft_wrap=True)
    if any(one.different for one in found.values()):
        sys.exit(1)


def _later(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Put off the call, so that an error in it does not look like an error in the arguments."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Callable[[], None]:
        return functools.partial(function, *arguments, **options)

    return called


def main() -> None:
    """Entry point of `mnist-jax`."""
    with exit_on_user_error():
        commands = (lessons, train, data, report, predict, demo, export, import_, verify)
        chosen = subcommands({function.__name__.strip("_"): _later(function) for function in commands})
        run = parsed(chosen, __doc__, prog="mnist-jax")
        run()
