"""What may be typed: the help lists it, a lesson's fields are options, and all else is refused with a message."""

import contextlib
import dataclasses
import functools
import io
import re
import sys
from typing import get_args

import pytest
from helpers import ROOT, script
from helpers.command_lines import (
    BAD,
    COMMANDS,
    GOOD,
    OPTIONS,
    WORDS,
    message,
    nothing_trained,
    plain,
    tiny_dataset,
    understood_or_refused,
)
from hypothesis import given
from hypothesis import strategies as st
from timing.peers import PeerName

from mnist_jax import LESSONS, UserError, data
from mnist_jax.cli import arguments, lesson_flags
from mnist_jax.cli import commands as cli
from mnist_jax.cli.arguments import subcommands
from mnist_jax.lessons import ACTIVATIONS, DTYPES, IDEAS, INITIALISATIONS, Lesson
from mnist_jax.nets.exchange import FORMATS
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, optimizer, schedule, transformation


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_message_and_status_2(run_main, toy_folder, tmp_path, case):
    arguments, says = BAD[case]
    out_folder = tmp_path / "run"
    digits = [] if "--data" in arguments else ["--data", toy_folder]
    status, out, err = run_main(cli.main, "train", *arguments, *digits, "--out", out_folder)
    assert (status, out) == (2, "")
    assert says in message(err)
    assert not out_folder.exists()


COMMANDS_WITH_HELP = [
    *(["mnist-jax", name] for name in ("lessons", "data", "report", "predict", "demo", "export", "import", "verify")),
    ["mnist-jax", "train"],
    *(["mnist-jax", "train", lesson_id] for lesson_id in LESSONS),
    *([path.stem] for path in sorted((ROOT / "experiments").glob("*.py"))),
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
def test_help_does_not_mention_none(command):
    assert not re.search(r"\{None\}|None\||\|None|default: (None)?\)", help_of(*command))


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_help_says_what_a_lesson_changed_and_why(lesson_id):
    assert IDEAS[lesson_id] in help_of("mnist-jax", "train", lesson_id)


CHOICES = [  # all types of which Python knows every value
    ("mnist-jax train mlp", "activation", ACTIVATIONS),
    ("mnist-jax train adam", "initialisation", INITIALISATIONS),
    ("mnist-jax train he", "dtype", DTYPES),
    ("mnist-jax train dropout", "split", data.SPLITS),
    ("mnist-jax predict run image", "lesson", LESSONS),
    ("mnist-jax export run --out net", "lesson", LESSONS),
    ("mnist-jax export run --out net", "format", FORMATS),
    ("mnist-jax import net", "lesson", LESSONS),
    ("mnist-jax verify", "lessons", LESSONS),
    ("ladder", "lessons", LESSONS),
    ("ladder", "split", data.SPLITS),
    ("running_variance", "split", data.SPLITS),
    ("initialisation", "lesson", LESSONS),
    ("optimizers", "lesson", LESSONS),
    ("sgd_vs_adam", "lessons", LESSONS),
    ("speed", "lessons", LESSONS),
    ("speed", "peers", get_args(PeerName)),
]


@pytest.mark.parametrize(("command", "option", "choices"), CHOICES)
def test_choices_are_listed_and_others_refused(run_main, command, option, choices):
    program, *arguments = command.split()
    shown = "".join(help_of(program, *arguments[:2]).split()).replace("[", "").replace("{{", "{")
    assert f"--{option}{{{','.join(choices)}}}" in shown
    status, out, err = run_main(main_of(program), *arguments, f"--{option}", "other")
    assert (status, out) == (2, "")
    assert "invalid choice 'other'" in message(err)
    assert all(f"'{choice}'" in message(err) for choice in choices)


OPTIMIZER_OPTIONS = [
    ("mnist-jax train relu", ["--optimizer", "other"]),
    ("sgd_vs_adam", ["--optimizers", "sgd", "other"]),
    ("optimizers", ["--optimizers", "sgd", "other"]),
]


@pytest.mark.parametrize(("command", "options"), OPTIMIZER_OPTIONS)
def test_optimizers_are_listed_once_and_others_refused(run_main, command, options):
    program, *arguments = command.split()
    names = ", ".join(OPTIMIZERS)
    assert help_of(program, *arguments).count(names) == 1
    status, out, err = run_main(main_of(program), *arguments, *options)
    assert (status, out) == (2, "")
    assert message(err) == f"error: Unknown optimizer 'other'; choose one of: {names}.\n"


@pytest.mark.parametrize("command", COMMANDS_WITH_HELP, ids=" ".join)
def test_help_of_other_commands_lists_no_optimizers(command):
    lists = command[:2] == ["mnist-jax", "train"] and len(command) == 3
    assert ("contrib.muon, " in help_of(*command)) == (lists or command[0] in ("optimizers", "sgd_vs_adam"))


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
def test_lesson_without_options_matches_the_course(lesson_of, lesson_id):
    assert lesson_of(lesson_id) == (lesson_id, LESSONS[lesson_id])


def shown(value):
    """A default, as tyro writes it."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_every_lesson_field_is_an_option_with_its_value_as_default(lesson_id):
    lesson = LESSONS[lesson_id]
    numbers = shown(sum(lesson.optimizer.hyperparameters, ())) or "as in optax"
    values = vars(lesson) | vars(lesson.optimizer) | {"optimizer": lesson.optimizer.name, "hyperparameters": numbers}
    values |= {"schedule": "none", "chain": "none"}
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
    "--hyperparameters momentum none nesterov true": {
        "optimizer": optimizer("sgd", 0.01, momentum=None, nesterov=True)
    },
    "--optimizer muon --hyperparameters ns_steps=3 nesterov=false": {
        "optimizer": optimizer("muon", 0.01, ns_steps=3, nesterov=False)
    },
    "--chain none --schedule none": {"optimizer": optimizer("sgd", 0.01, momentum=0.5)},
    "--optimizer adamw --chain clip_by_global_norm 1.0 add_decayed_weights 1e-4 mask kernels --schedule cosine": {
        "optimizer": optimizer(
            "adamw",
            0.01,
            schedule=schedule("cosine_decay"),
            chain=(
                transformation("clip_by_global_norm", 1.0),
                transformation("add_decayed_weights", 1e-4, mask="kernels"),
            ),
        )
    },
    # The numbers of the lesson's own optimizer, given explicitly.
    "--optimizer rmsprop --hyperparameters momentum 0.5": {"optimizer": optimizer("rmsprop", 0.01, momentum=0.5)},
    "--optimizer rmsprop": {"optimizer": optimizer("rmsprop", 0.01)},
    "--schedule constant": {"optimizer": optimizer("sgd", 0.01, momentum=0.5, schedule=schedule("constant"))},
    "--optimizer adam --schedule warmup_cosine_decay_schedule warmup_fraction 0.05": {
        "optimizer": optimizer("adam", 0.01, schedule=schedule("warmup_cosine_decay", warmup_fraction=0.05))
    },
    "--optimizer adam --schedule exponential_decay decay_rate 0.1 staircase true": {
        "optimizer": optimizer("adam", 0.01, schedule=schedule("exponential_decay", decay_rate=0.1, staircase=True))
    },
    "--schedule piecewise_interpolate at_0.5_fraction 0.1 interpolate_type cosine": {
        "optimizer": optimizer(
            "sgd",
            0.01,
            momentum=0.5,
            schedule=schedule("piecewise_interpolate", interpolate_type="cosine", **{"at_0.5_fraction": 0.1}),
        )
    },
}


@pytest.mark.parametrize("options", CHANGED)
def test_an_option_changes_what_it_names_and_nothing_else(lesson_of, options):
    expected = dataclasses.replace(LESSONS["mlp"], **CHANGED[options])
    assert lesson_of("mlp", *options.split()) == ("mlp", expected)


def test_command_options_may_precede_or_follow_the_lesson(lesson_of):
    for line in ("--seed 3 mlp --hidden 8", "mlp --seed 3 --hidden 8", "mlp --hidden 8 --seed 3"):
        assert lesson_of(*line.split())[1].hidden == (8,)


def test_changed_hyperparameter_keeps_the_others(lesson_of, monkeypatch):
    base = dataclasses.replace(LESSONS["adam"], optimizer=optimizer("adam", 0.01, b1=0.8, b2=0.99))
    both = subcommands({"own": lesson_flags._subcommand("adam", base), "other": lesson_flags._subcommand("he", base)})
    monkeypatch.setitem(cli.train.__annotations__, "lesson", both)
    assert lesson_of("own", "--hyperparameters", "b2", 0.9)[1].optimizer == optimizer("adam", 0.01, b1=0.8, b2=0.9)


@pytest.mark.parametrize("again", [["--chain", "zero_nans"], ["--chain=zero_nans"]])
def test_multi_word_option_is_given_once(run_main, again):
    status, _, err = run_main(cli.main, "train", "mlp", "--chain", "clip_by_global_norm", 1.0, *again)
    assert (status, message(err)) == (2, "error: --chain is given twice; give all its words after one --chain.\n")


def test_many_misplaced_arguments_are_refused(run_main):
    status, out, err = run_main(cli.main, *["--epochs", 3] * 1500, "train")
    assert (status, out) == (2, "")
    assert "Too many arguments are not understood" in message(err)


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
