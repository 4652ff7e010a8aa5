"""Words for optimizers: in options, and in comparisons."""

import sys

import pytest
from helpers.command_lines import message

from mnist_jax import OPTIMIZERS, UserError, optimizer, schedule
from mnist_jax.cli import commands as cli
from mnist_jax.cli.optimizer_words import chain_of, find_optimizer, hyperparameters_of, optimizer_of, schedule_of
from mnist_jax.optimizers import transformation


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("sgd", "momentum none nesterov true", {"momentum": None, "nesterov": True}),
        ("sgd", "momentum 0 accumulator_dtype float16", {"momentum": 0.0, "accumulator_dtype": "float16"}),
        ("adamw", "b1 9e-1 mask kernels", {"b1": 0.9, "mask": "kernels"}),
        ("adafactor", "min_dim_size_to_factor 64 decay_rate 1", {"min_dim_size_to_factor": 64, "decay_rate": 1.0}),
        ("muon", "ns_steps 3 nesterov False", {"ns_steps": 3, "nesterov": False}),
    ],
)
def test_settings_are_numbers_switches_words_or_none(name, said, expected):
    found = hyperparameters_of(name, said.split())
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in expected.items()}
    assert optimizer(name, 0.1, **found)


@pytest.mark.parametrize(
    "said",
    [["b1", "0.9", "b2", "0.8"], ["b1=0.9", "b2=0.8"], ["b1 0.9", "b2= 0.8"], ["b1 = 0.9 b2=0.8"], ["b2 0.8 b1=0.9"]],
)
def test_equals_signs_and_quotes_are_spaces(said):
    assert hyperparameters_of("adam", said) == {"b1": 0.9, "b2": 0.8}
    assert optimizer_of(" ".join(["adam", *said])) == ("adam", {"b1": 0.9, "b2": 0.8})


CLIP, DECAY = transformation("clip_by_global_norm", 1.0), transformation("add_decayed_weights", 1e-4, mask="kernels")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], ()),
        (["clip_by_global_norm", "1.0"], (CLIP,)),
        (["clip_by_global_norm", "max_norm", "1"], (CLIP,)),
        (["clip_by_global_norm 1.0", "add_decayed_weights 1e-4 mask=kernels"], (CLIP, DECAY)),
        (["add_decayed_weights", "mask", "kernels", "weight_decay", "1e-4", "clip_by_global_norm", "1"], (DECAY, CLIP)),
        (["zero_nans", "zero_nans"], (transformation("zero_nans"),) * 2),
        (["add_decayed_weights 0.1 none"], (transformation("add_decayed_weights", 0.1, mask=None),)),
        (
            ["apply_every=3", "ema", "0.5", "false"],
            (transformation("apply_every", 3), transformation("ema", 0.5, False)),
        ),
    ],
)
def test_a_chain_is_names_each_with_its_values(said, expected):
    assert chain_of(said) == expected


def test_an_optimizer_of_a_comparison_has_schedule_and_chain():
    said = "sgd momentum=0.9 schedule=warmup_cosine warmup_fraction=0.1 chain=clip_by_global_norm 1 zero_nans"
    expected = {
        "momentum": 0.9,
        "schedule": schedule("warmup_cosine_decay", warmup_fraction=0.1),
        "chain": (CLIP, transformation("zero_nans")),
    }
    assert optimizer_of(said) == ("sgd", expected)
    assert optimizer_of("sgd chain zero_nans schedule cosine") == (
        "sgd",
        {"schedule": schedule("cosine_decay"), "chain": (transformation("zero_nans"),)},
    )


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("", "Unknown optimizer ''; choose one of: "),
        ("admw", "Unknown optimizer 'admw'; choose one of: "),
        ("contrib.adam", "Unknown optimizer 'contrib.adam'"),
        ("sgd momentum", "Each name that sgd is given must be followed by its value; 'momentum' is not"),
        ("sgd momentum=", "'momentum' is not"),
        ("sgd momentum=0.5 momentum=0.9", "sgd is given momentum twice"),
        ("sgd momentun=0.5", "Unknown hyperparameter of sgd 'momentun'; choose one of: accumulator_dtype, momentum, "),
        ("sgd learning_rate=0.1", "Unknown hyperparameter of sgd 'learning_rate'"),
        ("sgd momentum=1", "momentum must be a number at least 0 and below 1"),
        ("sgd momentum=nan", "'momentum' must be a number that float32 holds"),
        ("sgd momentum=kernels", "momentum must be a number"),
        ("sgd nesterov=1", "nesterov must be True or False, not 1"),
        ("adafactor min_dim_size_to_factor=0.5", "must be a whole number of at least 1, not '0.5'"),
        (f"adafactor min_dim_size_to_factor={'9' * 4000}", "must be a number that float32 holds"),
        ("adamw mask=biases", "Unknown mask 'biases'; choose one of: kernels"),
        ("sgd schedule", "Unknown schedule ''; choose one of: "),
        ("sgd schedule=cosine schedule=linear", "sgd is given schedule twice"),
        ("sgd schedule=cosine alpha", "Each name that cosine is given must be followed by its value; 'alpha' is not"),
        ("sgd schedule=cosine alpha=0 alpha=1", "cosine is given alpha twice"),
        ("sgd schedule=cosine momentum=0.9", "Unknown argument of cosine_decay 'momentum'"),
        ("sgd schedule=cosine alpha=none", "alpha must be a number"),
        ("sgd chain=clip_by_norm 1", "Unknown transformation 'clip_by_norm'; choose one of: "),
        ("sgd chain=1.0", "Unknown transformation '1.0'"),
        ("sgd chain=clip_by_global_norm", "clip_by_global_norm needs max_norm"),
        ("sgd chain=clip_by_global_norm max_norm", "'max_norm' is not"),
        ("sgd chain=clip_by_global_norm -1", "max_norm must be a number at least 0"),
        ("sgd chain=clip_by_global_norm 1 2", "in this order: max_norm; 2 were given"),
        ("sgd chain=clip_by_global_norm 1 max_norm=1", "clip_by_global_norm is given max_norm twice"),
        ("sgd chain=clip_by_global_norm max_norm=1 max_norm=1", "clip_by_global_norm is given max_norm twice"),
        ("sgd chain=add_decayed_weights 0.1 kernels", "Unknown transformation 'kernels'"),
        (":", "The module '' cannot be imported"),
        ("math:", "The module 'math' has no function ''"),
        ("builtins:dict", "first argument of builtins:dict must be called learning_rate"),
        ("math:pi", "first argument of math:pi must be called learning_rate"),
        (".x:y", "The module '.x' cannot be imported"),
    ],
)
def test_unknown_or_invalid_words_are_refused(said, says):
    def made(name, settings):
        return optimizer(name, 0.1, **settings)

    with pytest.raises(UserError) as refused:
        made(*optimizer_of(said))
    assert says in str(refused.value)


def test_schedules_need_no_suffix():
    for said in ("cosine", "cosine_decay", "cosine_decay_schedule"):
        assert schedule_of([said, "alpha", "0.1"]) == schedule("cosine_decay", alpha=0.1)


OWN = """
import optax

def halving(learning_rate, *, gain: float = 1.0, plain: bool = False):
    return optax.sgd(gain * learning_rate * (1 if plain else 0.5))

def nothing(learning_rate):
    pass

def needing(learning_rate, inner):
    return inner
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module with optimizers in the current folder, and only there; it, what it registers and the path go again."""
    known, path, modules = dict(OPTIMIZERS), [*sys.path], set(sys.modules)
    monkeypatch.setattr(sys, "path", [entry for entry in path if entry])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_module.py").write_text(OWN)
    (tmp_path / "my_typo.py").write_text("import optax\n\n\ndef halving(learning_rate):\nreturn 3\n")
    (tmp_path / "my_error.py").write_text("1 / 0\n")
    (tmp_path / "my_script.py").write_text("import sys\n\nsys.exit(3)\n")

    def forget():
        OPTIMIZERS.clear()
        OPTIMIZERS.update(known)
        for name in set(sys.modules) - modules:
            if name.startswith("my_"):
                del sys.modules[name]

    yield forget
    forget()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "my_modul:halving",
            "The module 'my_modul' cannot be imported (ModuleNotFoundError: No module named 'my_modul'",
        ),
        ("my_typo:halving", "(IndentationError: expected an indented block after function definition on line 4"),
        ("my_error:halving", "(ZeroDivisionError: division by zero)"),
        ("my_script:halving", "(SystemExit: 3)"),
        ("my_module:doubling", "The module 'my_module' has no function 'doubling'"),
        ("my_module:needing", "my_module:needing needs inner; give it a default"),
        ("my_module:optax", "first argument of my_module:optax must be called learning_rate"),
    ],
)
def test_missing_custom_optimizer_is_refused(own_module, name, says):
    with pytest.raises(UserError) as refused:
        find_optimizer(name)
    assert says in str(refused.value)
    assert name not in OPTIMIZERS


def test_custom_optimizer_can_be_compared(own_module):
    name, settings = optimizer_of("my_module:halving gain=2 plain=true schedule=cosine")
    assert optimizer(name, 0.1, **settings).label == "my_module:halving, gain 2, plain true, cosine_decay"


def test_custom_optimizer_is_not_needed_to_read_its_run(own_module, run_main, toy_folder, tmp_path):
    train = ["train", "he", "--data", toy_folder, "--epochs", 1, "--hidden", 8, "--out", "run"]
    train += ["--optimizer", "my_module:halving", "--hyperparameters", "gain", 2, "plain", "true"]
    assert run_main(cli.main, *train)[0] == 0
    assert "my_module" in sys.modules
    (tmp_path / "my_module.py").unlink()
    own_module()
    for command in (
        ["report", "run"],
        ["export", "run", "--format", "safetensors", "--out", "net.safetensors"],
        ["export", "run", "--format", "stablehlo", "--out", "net.bin"],
    ):
        status, _, err = run_main(cli.main, *command)
        assert (status, err) == (0, "")
    assert not {"my_module", "my_module:halving"} & {*sys.modules, *OPTIMIZERS}
    status, _, err = run_main(cli.main, *train, "--resume")
    assert status == 2
    assert "No module named 'my_module'" in message(err)


def test_factory_without_transformation_is_refused_before_training(own_module, run_main, toy_folder, tmp_path):
    train = ["train", "mlp", "--data", toy_folder, "--hidden", 8, "--out", tmp_path / "run"]
    status, out, err = run_main(cli.main, *train, "--optimizer", "my_module:nothing")
    assert (status, "epoch" in out) == (2, False)
    assert "must return an optax.GradientTransformation, not None" in message(err)
    assert not list((tmp_path / "run").iterdir())
