"""Command lines of `mnist-jax`, and what becomes of them where nothing is trained."""

import contextlib
import dataclasses
import functools
import inspect
import io
import re
import sys
from pathlib import Path

import pytest

from helpers import toy_digits
from mnist_jax import LESSONS, UserError, data
from mnist_jax.cli import arguments, program
from mnist_jax.cli import commands as cli
from mnist_jax.cli.arguments import DataArguments, KeepingArguments, SharedJaxArguments
from mnist_jax.data import tfds as tfds_mnist
from mnist_jax.lessons import ACTIVATIONS, Lesson
from mnist_jax.optimizers import OPTIMIZERS, TRANSFORMATIONS, schedule_names
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.loop import check_runs
from mnist_jax.runs.records import runs_of_seeds

# Arguments of `mnist-jax train` that are refused, and a part of the message.
BAD = {
    "lesson": (["cnn"], "Unrecognized options: cnn"),
    "no lesson": ([], "Expected one of {mlp, dropout, relu, batch_norm, he, adam}"),
    "no such option": (["mlp", "--optimzer", "adam"], "Perhaps you meant: --optimizer"),
    "no such optimizer": (["mlp", "--optimizer", "adman"], "Unknown optimizer 'adman'; choose one of: "),
    "optimizer refused": (["mlp", "--optimizer", "dpsgd"], "needs the gradient of each single example"),
    "no number": (["mlp", "--epochs", "ten"], "Error parsing --epochs: invalid literal for int()"),
    "value of a switch": (["mlp", "--batch-norm", "False"], "Unrecognized options: False"),
    "lesson's option before it": (["--hidden", "8", "mlp"], "ordering can matter"),
    "learning rate 0": (["mlp", "--learning-rate", "0"], "above 0"),
    "learning rate negative": (["mlp", "--learning-rate", "-1"], "above 0"),
    "hyperparameter": (["adam", "--hyperparameters", "momentum", "0.5"], "b1, b2"),
    "dropout": (["mlp", "--dropout-rate", "1"], "below 1"),
    "epochs": (["mlp", "--epochs", "0"], "at least 1"),
    "seed": (["mlp", "--seed", "-1"], "0 to"),
    "batch": (["mlp", "--batch-size", "71"], "larger than the 66 training images"),
    "epsilon infinite": (["adam", "--hyperparameters", "eps", "inf"], "float32"),
    "learning rate as hyperparameter": (["mlp", "--hyperparameters", "learning_rate", "0.1"], "momentum"),
    "batch norm of one": (["he", "--batch-size", "1"], "at least 2"),
    "last batch of one": (["he", "--batch-size", "13"], "66 examples in batches of 13 leave one over"),
    "float64": (["mlp", "--dtype", "float64"], "float64 needs jax.enable_x64(True) around it, or JAX_ENABLE_X64=1"),
    "huge width": (["mlp", "--hidden", str(2**63)], "more than 100,000,000 parameters"),
    "huge widths": (["mlp", "--hidden", "2147483647", "2147483647"], "more than 100,000,000 parameters"),
    "many layers": (["mlp", "--hidden", *["2"] * 21], "at most 20 hidden layers"),
    "huge batch": (["mlp", "--batch-size", str(10**9)], "activations"),
    "huge number of epochs": (["mlp", "--epochs", str(10**400)], "at most 2,147,483,647 steps"),
    "many devices": (["mlp", "--devices-per-run", str(2**63)], "cannot be split"),
    "name too long": (["mlp", "--data", "x" * 300], "cannot be accessed"),
    "data_dir a file": (["mlp", "--data", "tfds", "--data-dir", __file__], "is a file"),
    "hyperparameter without value": (["mlp", "--hyperparameters", "momentum"], "its value; 'momentum' is not"),
    "schedule": (["mlp", "--schedule", "cosin"], "Unknown schedule 'cosin'; choose one of: "),
    "schedule without name": (["mlp", "--schedule"], "Unknown schedule ''; choose one of: "),
    "chain": (["mlp", "--chain", "clip_by_norm", "1.0"], "Unknown transformation 'clip_by_norm'; choose one of: "),
    "module": (["mlp", "--optimizer", "nowhere.at_all:made"], "No module named 'nowhere'"),
    "function of the module": (["mlp", "--optimizer", "math:made"], "'math' has no function 'made'"),
    "function that makes no optimizer": (["mlp", "--optimizer", "math:sqrt"], "must be called learning_rate"),
    "hyperparameter of the old optimizer": (
        ["mlp", "--optimizer", "adam", "--hyperparameters", "momentum", "0.5"],
        "b1",
    ),
    "home": (["mlp", "--data", "~nobody-of-this-name"], "home folder"),
    "folder": (["mlp", "--data", "nowhere"], "neither a file nor a folder"),
}


OPTIONS = [
    f"--{name}".replace("_", "-")
    for name in (
        *("epochs", "seed", "devices_per_run", "split", "learning_rate", "hyperparameters", "schedule", "chain"),
        *(field.name for field in dataclasses.fields(Lesson)),
        *inspect.signature(cli.data).parameters,
        *(
            field.name
            for group in (DataArguments, KeepingArguments, SharedJaxArguments)
            for field in dataclasses.fields(group)
        ),
        *("no_compilation_cache", "no_distributed", "no_prepare", "no_resume", "help", "version"),
    )
]
COMMANDS = [["lessons"], ["data"], ["train"], *(["train", lesson_id] for lesson_id in LESSONS), []]
GOOD = [
    ["--epochs", "3"], ["--hidden", "16", "8"], ["--seed", "7"], ["--no-batch-norm"], ["--no-compilation-cache"],
    ["--split", "notebooks"], ["--hyperparameters", "b1", "0.9"], ["--learning-rate", "0.1"], ["--batch-size", "2"],
    ["--optimizer", "muon"], ["--schedule", "cosine"], ["--chain", "clip_by_global_norm 1.0", "zero_nans"],
]  # fmt: skip
WORDS = [
    *LESSONS, *OPTIMIZERS, *ACTIVATIONS, *data.SPLITS, "lessons", "train", "data", "pytorch", "auto", "tfds", "sample",
    *TRANSFORMATIONS, *schedule_names(), "mask", "kernels", "none", "true", "momentum=0.9", ":", "math:pi", "b1=",
    "b1", "momentum", "0", "1", "2", "16", "0.5", "1e-3", "1e400", "-1", "nan", "-inf", "1_0", "0x10", str(2**63),
    "9" * 5000, "True", "None", "", "-", "--", "-h", "-x", "=", "--epochs=3", ".", "/", "~", "~nobody-of-this-name",
    "no/where", "x" * 300, "[/x]", "[bold]", "a\nb", "\x1b[2J", "{", "\u2500", "\u2502", "\u2028",
]  # fmt: skip


@functools.cache
def tiny_dataset():
    return data.from_arrays(*toy_digits(72), *toy_digits(20, seed=1))


def not_loaded(source, split, data_dir):
    """Like `load_data`, but TFDS is not asked for its digits."""
    if source not in ("auto", "tfds"):
        return data.load(source, split, data_dir)
    return tiny_dataset()


def not_trained(study, lessons, data, keeping, console, *, seeds, epochs, devices_per_run):
    """Like `run_lessons`: refuses what that refuses, but trains and writes nothing."""
    ((name, lesson),) = lessons.items()
    check_runs(lesson, data, runs_of_seeds(seeds), epochs=epochs, placement=Placement(devices_per_run=devices_per_run))
    keeping.check()
    return keeping.out or Path(name), {"lessons": {name: {"diverged": [False], "test_correct": [[1]]}}}


def not_prepared(*_):
    raise UserError("MNIST cannot be downloaded (no network).")


@contextlib.contextmanager
def nothing_trained(folder):
    """Commands say what they always say, in an empty folder, but train, download and change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arguments, "load_data", not_loaded)
        patch.setattr(cli, "run_lessons", not_trained)
        patch.setattr(cli, "start_jax", lambda _: None)  # its settings would stay
        patch.setattr(tfds_mnist, "prepare", not_prepared)
        patch.delattr(program, "_drop")  # of an output that can always be written
        patch.chdir(folder)
        yield


def understood_or_refused(line):
    """Whether `mnist-jax` understands these arguments; else it must refuse them with a message and status 2."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["mnist-jax", *line])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
    for stream in (out, err):
        stream.seek(0)
    said = err.read()
    if status == 0:
        assert said == ""
        assert out.read().strip()
        return True
    assert status == 2
    assert said.startswith("error: ") or out.read() == ""
    message(said)
    return False


def message(err):
    """The message of a refusal: ours, or tyro's box."""
    if err.startswith("error: "):
        assert err.count("\n") == 1
        return err
    assert re.search(r"\n.? For full helptext, (run|see) .* --help .*\n.*\n$", err)
    return plain(err)


def plain(text):
    """Without what draws boxes."""
    return " ".join(re.sub("[─│╭╮╰╯]|---+", " ", text).split())
