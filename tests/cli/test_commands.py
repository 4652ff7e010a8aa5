import contextlib
import dataclasses
import functools
import inspect
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from helpers import ROOT, script, toy_digits
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import LESSONS, UserError, data
from mnist_jax.cli import arguments, lesson_flags, program
from mnist_jax.cli import commands as cli
from mnist_jax.cli.arguments import DataArguments, KeepingArguments, SharedJaxArguments, subcommands
from mnist_jax.data import tfds as tfds_mnist
from mnist_jax.errors import check_choice
from mnist_jax.lessons import ACTIVATIONS, DTYPES, INITIALISATIONS, Lesson
from mnist_jax.nets.exchange import FORMATS
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, optimizer
from mnist_jax.runs.files import RESULTS, make_folder
from mnist_jax.runs.journal import JOURNAL
from mnist_jax.runs.loop import check_runs
from mnist_jax.runs.records import runs_of_seeds


def test_lessons_lists_the_ladder(run_main):
    status, out, _ = run_main(cli.main, "lessons")
    assert status == 0
    for lesson_id in LESSONS:
        assert lesson_id in out
    assert "adam 0.01" in out


def test_train_writes_a_run(run_main, toy_folder, tmp_path):
    out_folder = tmp_path / "run"
    status, out, _ = run_main(
        cli.main, "train", "he", "--data", toy_folder, "--epochs", 2, "--seed", 7, "--out", out_folder,
        "--optimizer", "adam", "--learning-rate", 0.003, "--hyperparameters", "b1", 0.8, "--hidden", 16, 8,
        "--batch-size", 16, "--dropout-rate", 0.25, "--activation", "tanh", "--initialisation", "pytorch",
        "--no-batch-norm",
    )  # fmt: skip
    assert status == 0
    results = json.loads((out_folder / RESULTS).read_text())
    assert set(results) == {"study", "data", "config", "environment", "lessons"}
    assert results["study"] == "train"
    assert {"source", "split", "train", "validation", "test", "sha256"} <= set(results["data"])
    assert {"jax", "flax", "optax", "backend", "device"} <= set(results["environment"])
    assert results["config"]["lessons"]["he"] == {
        "hidden": [16, 8],
        "activation": "tanh",
        "dropout_rate": 0.25,
        "batch_norm": False,
        "initialisation": "pytorch",
        "optimizer": {"name": "adam", "learning_rate": 0.003, "hyperparameters": [["b1", 0.8]]},
        "batch_size": 16,
        "dtype": "float32",
    }
    entry = results["lessons"]["he"]
    assert entry["seeds"] == [7]
    assert f"test accuracy {entry['test_correct'][0][-1] / 20:.2%}" in out
    assert "epoch  1" in out
    assert "left)" in out
    assert sorted(path.name for path in out_folder.iterdir()) == ["checkpoints", RESULTS, JOURNAL]


def test_a_diverged_run_is_told_and_recorded(run_main, toy_folder, tmp_path):
    status, out, _ = run_main(
        cli.main, "train", "relu", "--data", toy_folder, "--learning-rate", 1e30, "--out", tmp_path / "run"
    )
    assert status == 0
    assert "diverged: the loss became non-finite in epoch 1" in out
    assert json.loads((tmp_path / "run" / RESULTS).read_text())["lessons"]["relu"]["diverged"] == [True]


BAD = {
    "lesson": (["cnn"], "Unrecognized options: cnn"),
    "no lesson": ([], "Expected one of {mlp, dropout, relu, batch_norm, he, adam}"),
    "no such option": (["mlp", "--optimzer", "adam"], "Perhaps you meant: --optimizer"),
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
    "epsilon infinite": (["adam", "--hyperparameters", "eps", "inf"], "at least 0"),
    "learning rate as hyperparameter": (["mlp", "--hyperparameters", "learning_rate", "0.1"], "momentum"),
    "batch norm of one": (["he", "--batch-size", "1"], "at least 2"),
    "last batch of one": (["he", "--batch-size", "13"], "66 examples in batches of 13 leave one over"),
    "huge width": (["mlp", "--hidden", str(2**63)], "more than 100,000,000 parameters"),
    "huge widths": (["mlp", "--hidden", "2147483647", "2147483647"], "more than 100,000,000 parameters"),
    "many layers": (["mlp", "--hidden", *["2"] * 21], "at most 20 hidden layers"),
    "huge batch": (["mlp", "--batch-size", str(10**9)], "activations"),
    "huge number of epochs": (["mlp", "--epochs", str(10**400)], "at most 2,147,483,647 steps"),
    "many devices": (["mlp", "--devices-per-run", str(2**63)], "cannot be split"),
    "name too long": (["mlp", "--data", "x" * 300], "cannot be looked at"),
    "data_dir a file": (["mlp", "--data", "tfds", "--data-dir", __file__], "is a file"),
    "hyperparameter without number": (["mlp", "--hyperparameters", "momentum"], "Error parsing --hyperparameters"),
    "hyperparameter of the old optimizer": (
        ["mlp", "--optimizer", "adam", "--hyperparameters", "momentum", "0.5"],
        "b1",
    ),
    "home": (["mlp", "--data", "~nobody-of-this-name"], "home folder"),
    "folder": (["mlp", "--data", "nowhere"], "not a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_message_and_status_2(run_main, toy_folder, tmp_path, case):
    arguments, says = BAD[case]
    out_folder = tmp_path / "run"
    digits = [] if "--data" in arguments else ["--data", toy_folder]
    status, out, err = run_main(cli.main, "train", *arguments, *digits, "--out", out_folder)
    assert (status, out) == (2, "")
    assert says in message(err)
    assert not out_folder.exists()


def message(err):
    """What a refusal says: one sentence of ours, or tyro's box."""
    if err.startswith("error: "):
        assert err.count("\n") == 1
        return err
    assert re.search(r"\n.? For full helptext, (run|see) .* --help .*\n.*\n$", err)
    return plain(err)


def plain(text):
    """Without what draws boxes."""
    return " ".join(re.sub("[─│╭╮╰╯]|---+", " ", text).split())


COMMANDS_WITH_HELP = [
    *(["mnist-jax", name] for name in ("lessons", "data", "report", "predict", "demo", "export", "import", "train")),
    *(["mnist-jax", "train", lesson_id] for lesson_id in LESSONS),
    *([path.stem] for path in sorted((ROOT / "experiments").glob("*.py")) if path.stem != "speed"),
]


def main_of(program):
    return cli.main if program == "mnist-jax" else script(program).main


@functools.cache
def help_of(*command):
    """What --help prints, without the box."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", ["program", *command[1:], "--help"])
        with pytest.raises(SystemExit, match=r"^0$"):
            main_of(command[0])()
    return plain(out.getvalue())


@pytest.mark.parametrize("command", COMMANDS_WITH_HELP, ids=" ".join)
def test_help_speaks_of_no_none(command):
    assert "None" not in help_of(*command)


CHOICES = [  # all types of which Python knows every value
    ("mnist-jax train mlp", "activation", ACTIVATIONS),
    ("mnist-jax train adam", "initialisation", INITIALISATIONS),
    ("mnist-jax train he", "dtype", DTYPES),
    ("mnist-jax train relu", "optimizer", OPTIMIZERS),
    ("mnist-jax train dropout", "split", data.SPLITS),
    ("mnist-jax predict run image", "lesson", LESSONS),
    ("mnist-jax export run --out net", "lesson", LESSONS),
    ("mnist-jax export run --out net", "format", FORMATS),
    ("mnist-jax import net", "lesson", LESSONS),
    ("ladder", "lessons", LESSONS),
    ("ladder", "split", data.SPLITS),
    ("running_variance", "split", data.SPLITS),
    ("initialisation", "lesson", LESSONS),
    ("optimizers", "lesson", LESSONS),
    ("sgd_vs_adam", "lesson", LESSONS),
    ("sgd_vs_adam", "optimizers", OPTIMIZERS),
]


@pytest.mark.parametrize(("command", "option", "choices"), CHOICES)
def test_choices_are_listed_and_others_refused(run_main, command, option, choices):
    program, *arguments = command.split()
    assert f"--{option} {{{','.join(choices)}}}" in help_of(program, *arguments[:2]).replace("[", "")
    status, out, err = run_main(main_of(program), *arguments, f"--{option}", "other")
    assert (status, out) == (2, "")
    assert "invalid choice 'other'" in message(err)
    assert all(f"'{choice}'" in message(err) for choice in choices)


@pytest.fixture
def lesson_of(run_main, monkeypatch):
    """The id and lesson that `mnist-jax train` would train, with these arguments."""
    chosen = {}

    def not_trained(study, lessons, *_, **__):
        chosen.update(lessons)
        raise UserError("Enough.")

    monkeypatch.setattr(cli, "run_lessons", not_trained)
    monkeypatch.setattr(arguments, "load_data", lambda *_: tiny_dataset())

    def lesson_of(*line):
        chosen.clear()
        assert run_main(cli.main, "train", *line) == (2, "", "error: Enough.\n")
        return chosen.popitem()

    return lesson_of


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_a_lesson_without_options_is_the_course_s(lesson_of, lesson_id):
    assert lesson_of(lesson_id) == (lesson_id, LESSONS[lesson_id])


def shown(value):
    """A default, as tyro writes it."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_every_field_of_a_lesson_is_an_option_with_its_value_as_the_default(lesson_id):
    lesson = LESSONS[lesson_id]
    numbers = shown(sum(lesson.optimizer.hyperparameters, ())) or "as in optax"
    values = vars(lesson) | vars(lesson.optimizer) | {"optimizer": lesson.optimizer.name, "hyperparameters": numbers}
    for name in {field.name for kind in (Lesson, Optimizer) for field in dataclasses.fields(kind)} - {"name"}:
        option = re.escape(f"--{name.replace('_', '-')}")
        described = re.search(
            rf" {option}(?:, --no-[\w-]+)? (?!--)(.*?) \(default: (.*?)\)", help_of("mnist-jax", "train", lesson_id)
        )
        assert described[2] == shown(values[name])


CHANGED = {
    "--hidden 16 8": {"hidden": (16, 8)},
    "--hidden": {"hidden": ()},
    "--activation gelu": {"activation": "gelu"},
    "--dropout-rate 0.25": {"dropout_rate": 0.25},
    "--batch-norm": {"batch_norm": True},
    "--no-batch-norm": {"batch_norm": False},
    "--initialisation he": {"initialisation": "he"},
    "--batch-size 16": {"batch_size": 16},
    "--dtype float64": {"dtype": "float64"},
    "--learning-rate 0.5": {"optimizer": optimizer("sgd", 0.5, momentum=0.5)},
    "--optimizer sgd": {"optimizer": optimizer("sgd", 0.01, momentum=0.5)},
    "--hyperparameters momentum 0.9": {"optimizer": optimizer("sgd", 0.01, momentum=0.9)},
    "--optimizer adam": {"optimizer": optimizer("adam", 0.01)},
    "--optimizer lion --learning-rate 0.003 --hyperparameters b1 0.8 b2 0.95": {
        "optimizer": optimizer("lion", 0.003, b1=0.8, b2=0.95)
    },
    # The numbers that the lesson's own optimizer has, but said.
    "--optimizer rmsprop --hyperparameters momentum 0.5": {"optimizer": optimizer("rmsprop", 0.01, momentum=0.5)},
    "--optimizer rmsprop": {"optimizer": optimizer("rmsprop", 0.01)},
}


@pytest.mark.parametrize("options", CHANGED)
def test_an_option_changes_what_it_names_and_nothing_else(lesson_of, options):
    expected = dataclasses.replace(LESSONS["mlp"], **CHANGED[options])
    assert lesson_of("mlp", *options.split()) == ("mlp", expected)


def test_a_command_s_options_may_stand_before_the_lesson_or_after_it(lesson_of):
    for line in ("--seed 3 mlp --hidden 8", "mlp --seed 3 --hidden 8", "mlp --hidden 8 --seed 3"):
        assert lesson_of(*line.split())[1].hidden == (8,)


def test_a_changed_number_keeps_the_optimizer_s_others(lesson_of, monkeypatch):
    base = dataclasses.replace(LESSONS["adam"], optimizer=optimizer("adam", 0.01, b1=0.8, b2=0.99))
    both = subcommands({"own": lesson_flags._subcommand("adam", base), "other": lesson_flags._subcommand("he", base)})
    monkeypatch.setitem(cli.train.__annotations__, "lesson", both)
    assert lesson_of("own", "--hyperparameters", "b2", 0.9)[1].optimizer == optimizer("adam", 0.01, b1=0.8, b2=0.9)


def test_more_misplaced_arguments_than_tyro_can_name_get_a_sentence(run_main):
    status, out, err = run_main(cli.main, *["--epochs", 3] * 1500, "train")
    assert (status, out) == (2, "")
    assert "So many arguments are not understood" in message(err)


def test_an_output_folder_that_cannot_be_written_is_refused_before_training(run_main, toy_folder, tmp_path):
    (tmp_path / "file").touch()
    status, out, err = run_main(cli.main, "train", "mlp", "--data", toy_folder, "--out", tmp_path / "file" / "run")
    assert status == 2
    assert "cannot be written" in err
    assert "epoch" not in out


def test_a_folder_that_holds_a_run_is_left_alone(run_main, toy_folder, tmp_path):
    (tmp_path / RESULTS).write_text("precious")
    status, _, err = run_main(cli.main, "train", "mlp", "--data", toy_folder, "--out", tmp_path)
    assert status == 2
    assert "already holds a run" in err
    assert (tmp_path / RESULTS).read_text() == "precious"


def test_a_folder_of_another_run_under_way_is_refused(run_main, toy_folder, tmp_path):
    claimed = make_folder(tmp_path / "run", "mlp", JOURNAL)
    status, _, err = run_main(cli.main, "train", "mlp", "--data", toy_folder, "--out", claimed)
    assert status == 2
    assert "already holds a run" in err


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_a_folder_whose_name_is_not_utf8_works(run_main, toy_folder, tmp_path, monkeypatch):
    picture = ROOT / "docs" / "seven.png"
    monkeypatch.chdir(tmp_path)
    run = "b\udcff"
    train = ["train", "mlp", "--data", toy_folder, "--epochs", 1, "--out", run]
    for command in (train, [*train, "--resume"], ["predict", run, picture], ["report", run]):
        status, _, err = run_main(cli.main, *command)
        assert (status, err) == (0, "")


def test_default_folders_of_the_same_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    assert [make_folder(None, "mlp", JOURNAL).name for _ in range(3)] == ["mlp-now", "mlp-now-2", "mlp-now-3"]


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        make_folder(tmp_path / ("x" * 300), "mlp", JOURNAL)


def test_a_net_that_does_not_fit_is_refused_and_leaves_nothing(run_main, toy_folder, tmp_path, monkeypatch):
    for most in ("MOST_PARAMETERS", "MOST_ACTIVATIONS"):  # that a small machine has
        monkeypatch.setattr(f"mnist_jax.lessons.{most}", 2**63)
    status, _, err = run_main(
        cli.main, "train", "mlp", "--data", toy_folder, "--hidden", 10**8, "--out", tmp_path / "run"
    )
    assert status == 2
    assert "does not fit" in err
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_a_terminal_without_the_characters_gets_replacements(toy_folder, tmp_path):
    command = [sys.executable, "experiments/ladder.py", "--lessons", "mlp", "--seeds", "2", "--epochs", "1"]
    done = subprocess.run(
        [*command, "--data", str(toy_folder), "--out", str(tmp_path / "run")],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b" ? " in done.stdout


def test_no_traceback_from_the_command_itself():
    done = subprocess.run(
        [sys.executable, "-m", "mnist_jax", "train", "cnn"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Unrecognized options: cnn" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_says_what_is_there(run_main, toy_folder):
    status, out, _ = run_main(cli.main, "data", "--data", toy_folder)
    assert status == 0
    assert "not prepared" in out
    assert "4,500" in out
    assert "yes, sample of MNIST" in out
    assert "not MNIST" in out


def test_data_names_what_does_not_verify(run_main, toy_folder):
    (toy_folder / "train-images-idx3-ubyte.gz").write_bytes(b"junk")
    status, _, err = run_main(cli.main, "data", "--data", toy_folder)
    assert status == 2
    assert "not an IDX file" in err


def test_data_prepare_without_a_network_says_what_to_do(run_main, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", fail)
    status, _, err = run_main(cli.main, "data", "--prepare", "--data-dir", tmp_path)
    assert status == 2
    assert "no network" in err


def test_a_manual_folder_that_is_not_there_is_told(run_main, tmp_path):
    status, _, err = run_main(cli.main, "data", "--prepare", "--data-dir", tmp_path, "--manual-dir", tmp_path / "no")
    assert status == 2
    assert "is not a folder; --manual-dir" in err


@pytest.mark.slow
def test_two_processes_prepare_the_same_data(mnist_folder, tmp_path):
    command = [sys.executable, "-m", "mnist_jax", "data", "--prepare"]
    command += ["--data-dir", str(tmp_path), "--manual-dir", str(mnist_folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
        assert "60,000" in out
        assert "yes, MNIST" in out


# --- any arguments; fuzz.py tries the same ---

OPTIONS = [
    f"--{name}".replace("_", "-")
    for name in (
        *("epochs", "seed", "devices_per_run", "split", "learning_rate", "hyperparameters"),
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
]  # fmt: skip
WORDS = [
    *LESSONS, *OPTIMIZERS, *ACTIVATIONS, *data.SPLITS, "lessons", "train", "data", "pytorch", "auto", "tfds", "sample",
    "b1", "momentum", "0", "1", "2", "16", "0.5", "1e-3", "1e400", "-1", "nan", "-inf", "1_0", "0x10", str(2**63),
    "9" * 5000, "True", "None", "", "-", "--", "-h", "-x", "=", "--epochs=3", ".", "/", "~", "~nobody-of-this-name",
    "no/where", "x" * 300, "[/x]", "[bold]", "a\nb", "\x1b[2J", "{", "\u2500", "\u2502", "\u2028",
]  # fmt: skip


@functools.cache
def tiny_dataset():
    return data.from_arrays(toy_digits(72), toy_digits(20, seed=1), "slides")


def not_loaded(source, split, data_dir):
    """As `load_data`, but TFDS is not asked for its digits."""
    if source not in ("auto", "tfds"):
        return data.load(source, split, data_dir)
    check_choice("split", split, data.SPLITS)
    return tiny_dataset()


def not_trained(study, lessons, data, keeping, console, *, seeds, epochs, placement):
    """As `run_lessons`: refuses what that refuses, trains nothing and writes nothing."""
    ((name, lesson),) = lessons.items()
    check_runs(lesson, data, runs_of_seeds(seeds), epochs=epochs, placement=placement)
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


ARGUMENT = st.sampled_from(WORDS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9
)
PART = st.one_of(
    st.sampled_from(GOOD),
    st.tuples(st.sampled_from(["--data", "--data-dir", "--out"]), ARGUMENT),
    st.sampled_from([arguments for arguments, _ in BAD.values()]),
    st.tuples(st.sampled_from(OPTIONS), ARGUMENT),
    st.tuples(st.sampled_from(OPTIONS) | ARGUMENT),
)


@given(command=st.sampled_from(COMMANDS), parts=st.lists(PART, max_size=3))
def test_any_arguments_are_understood_or_refused(tmp_path_factory, command, parts):
    with nothing_trained(tmp_path_factory.getbasetemp()):
        understood_or_refused([*command, *(argument for part in parts for argument in part)])
