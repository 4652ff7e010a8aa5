import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from mnist_jax import LESSONS, UserError, init_state, logits
from mnist_jax.cli import commands as cli
from mnist_jax.nets.exchange import exported, pytorch_tensors, read_safetensors, state_of_tensors
from mnist_jax.nets.trained import TrainedNet, read_nets
from mnist_jax.runs.files import RESULTS
from mnist_jax.runs.journal import CHECKPOINTS

LAYERS = {"fc1": (784, 512), "fc2": (512, 256), "fc3": (256, 10)}


def net_of(lesson_id, **changes):
    """A net whose every number is of its own, batch statistics too."""
    lesson = dataclasses.replace(LESSONS[lesson_id], **changes)
    state = init_state(lesson, jax.random.key(5))
    rng = np.random.default_rng(0)
    params, batch_stats = jax.tree.map(
        lambda leaf: np.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype) * 0.1, (state.params, state.batch_stats)
    )
    return TrainedNet(lesson_id, 5, 1, dataclasses.replace(state, params=params, batch_stats=batch_stats))


def assert_same_net(ours, theirs):
    for pair in ((ours.params, theirs.params), (ours.batch_stats, theirs.batch_stats)):
        jax.tree.map(np.testing.assert_array_equal, *pair)


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_names_and_shapes_are_the_notebooks_(lesson_id):
    net = net_of(lesson_id)
    tensors = pytorch_tensors(net.state)
    expected = {}
    for layer, (fan_in, fan_out) in LAYERS.items():
        expected |= {f"{layer}.weight": (fan_out, fan_in), f"{layer}.bias": (fan_out,)}
    if LESSONS[lesson_id].batch_norm:
        for layer, width in (("batch_norm1", 512), ("batch_norm2", 256)):
            expected |= {f"{layer}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
            expected[f"{layer}.num_batches_tracked"] = ()
    assert {name: tensor.shape for name, tensor in tensors.items()} == expected
    assert tensors["fc1.weight"][3, 7] == net.state.params["fc1"]["kernel"][7, 3]


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_to_pytorch_and_back(lesson_id, toy_ladder, toy, run_main, tmp_path, monkeypatch):
    """JAX -> safetensors -> PyTorch -> safetensors -> JAX: the same weights, and the same logits in all three."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    monkeypatch.syspath_prepend(str(ROOT / "tests" / "parity"))
    from parity_torch import Net

    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    options = ["--lesson", lesson_id, "--seed", 1]
    assert run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", there, *options)[0] == 0
    net = Net(lesson_id, torch.float32)
    net.load_state_dict(load_file(there))  # strict: no name too many or too few
    save_file(net.state_dict(), back)
    digits = toy_ladder.parent / "toy"
    status, out, err = run_main(
        cli.main, "import", back, "--lesson", lesson_id, "--data", digits, "--out", tmp_path / "run"
    )
    assert (status, err) == (0, "")
    assert "test accuracy" in out
    (ours,), (theirs,) = read_nets(toy_ladder, lesson_id=lesson_id, seed=1), read_nets(tmp_path / "run")
    assert_same_net(ours.state, theirs.state)
    outputs = logits(ours.state, toy.images)
    np.testing.assert_array_equal(outputs, logits(theirs.state, toy.images))
    net.eval()
    with torch.no_grad():  # the notebooks' net ends with log-softmax, which takes a constant from each row
        log_probabilities = net(torch.from_numpy(toy.images).float() / 255, []).numpy()
    np.testing.assert_allclose(jax.nn.log_softmax(outputs), log_probabilities, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_a_file_gives_the_net_back(lesson_id, tmp_path):
    net = net_of(lesson_id)
    (tmp_path / "net").write_bytes(exported(net, "safetensors"))
    found = read_safetensors(tmp_path / "net", lesson_id, seed=5)
    assert_same_net(net.state, found.state)
    assert (found.epoch, found.state.lesson) == (0, net.state.lesson)
    assert int(found.state.step) == 0


def test_what_was_changed_in_the_lesson_is_kept(tmp_path):
    net = net_of("he", hidden=(40, 30, 20), activation="tanh")
    (tmp_path / "net").write_bytes(exported(net, "safetensors"))
    assert read_safetensors(tmp_path / "net", "he").state.lesson == net.state.lesson
    with pytest.raises(UserError, match="holds lesson 'he', not 'adam'"):
        read_safetensors(tmp_path / "net", "adam")
    # As PyTorch's tools write it, without what we say of it: widths can be seen, the activation cannot.
    (tmp_path / "plain").write_bytes(save(pytorch_tensors(net.state)))
    assert read_safetensors(tmp_path / "plain", "he").state.lesson == dataclasses.replace(
        LESSONS["he"], hidden=(40, 30, 20)
    )


def changed(**changes):
    tensors = {name: np.asarray(tensor) for name, tensor in pytorch_tensors(net_of("adam").state).items()}
    for name, change in changes.items():
        name = name.replace("__", ".")
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name]) if name in tensors else change(None)
    return tensors


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (changed(fc2__bias=None), "fc2.bias is missing"),
        (changed(batch_norm1__running_var=None), "batch_norm1.running_var is missing"),
        (changed(fc4__scale=lambda _: np.zeros(3, np.float32)), "fc4.scale is no part"),
        (changed(batch_norm1__num_batches_tracked=lambda _: np.float32("nan")), "tracked is not a whole number"),
        (changed(batch_norm1__num_batches_tracked=lambda _: np.zeros(2, int)), "tracked is not a whole number"),
        (changed(fc9__num_batches_tracked=lambda _: np.int64(3)), "fc9.num_batches_tracked is no part"),
        (changed(fc1__weight=np.transpose), r"fc1.weight is of shape \(784, 512\)"),
        (changed(fc3__weight=lambda a: a[:9]), r"of shape \(9, 256\), in the lesson's net of \(10, 256\)"),
        (changed(fc1__bias=lambda a: a.astype(np.float16)), "fc1.bias is float16, not float32"),
        (changed(fc1__bias=lambda a: a * np.float32("nan")), "fc1.bias holds a value that is not finite"),
        (changed(batch_norm2__running_var=lambda a: -a), "A running variance is below 0"),
        (
            {name: tensor for name, tensor in changed().items() if not name.startswith("fc3")},
            "fc3.bias is missing; there is",
        ),
        (
            {f"module.{name}": tensor for name, tensor in changed().items()},
            "fc1.bias is missing; there is module.",
        ),
        ({"fc1.weight": np.zeros((10, 784), np.float32)}, "fc1.bias is missing; there is fc1.weight"),
        ({}, "fc1.bias is missing; there is nothing"),
    ],
)
def test_another_net_is_refused_with_a_sentence(tensors, says, run_main, tmp_path):
    (tmp_path / "net").write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))
    status, _, err = run_main(cli.main, "import", tmp_path / "net", "--lesson", "adam", "--out", tmp_path / "out")
    assert status == 2
    with pytest.raises(UserError, match=says):
        read_safetensors(tmp_path / "net", "adam")
    assert "does not hold the net of lesson adam" in err
    assert not (tmp_path / "out").exists()


def saying(lesson, **changed):
    """A file of a small net whose metadata say this of its lesson."""
    values = {**dataclasses.asdict(lesson), **changed}
    metadata = {"mnist_jax.lesson_id": "adam", "mnist_jax.lesson": json.dumps(values)}
    return save(pytorch_tensors(init_state(lesson, jax.random.key(0))), metadata=metadata)


SMALL = dataclasses.replace(LESSONS["adam"], hidden=(3,))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (saying(SMALL, hidden=[2**31 - 1, 2**31 - 1]), "more than 100,000,000 parameters"),
        (saying(SMALL, hidden=[512.5, 256]), "tuple of Python ints"),
        (saying(SMALL, hidden=[1] * 10_000), "at most 20 hidden layers"),
        (saying(SMALL, batch_norm=[1]), "True or False"),
        (saying(SMALL, batch_size=10**9), "activations"),
        (saying(SMALL, optimizer={"name": "sgd", "learning_rate": [], "hyperparameters": []}), "learning rate"),
        (saying(SMALL, optimizer=7), "not one that this version"),
        (
            save({f"fc{n}.weight": np.zeros((10, 784 if n == 1 else 10), np.float32) for n in range(1, 99)}),
            "at most 20 hidden layers",
        ),
    ],
    ids=["widths", "a fraction", "layers", "batch norm", "batch", "learning rate", "optimizer", "layers there are"],
)
def test_what_a_file_says_of_sizes_is_checked_before_a_net_is_made(content, says, tmp_path, monkeypatch):
    (tmp_path / "net").write_bytes(content)
    monkeypatch.setattr("mnist_jax.nets.exchange.init_state", failing)
    with pytest.raises(UserError, match=says):
        read_safetensors(tmp_path / "net", "adam")


def test_tensors_are_checked_before_a_net_is_made(monkeypatch):
    """A file of a few bytes whose lesson would be a net of 0.4 GB."""

    def traced_only(lesson, key):
        assert isinstance(key, jax.core.Tracer)
        return init_state(lesson, key)

    monkeypatch.setattr("mnist_jax.nets.exchange.init_state", traced_only)
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(100_000, 200))
    with pytest.raises(UserError, match=r"fc1\.bias is missing"):
        state_of_tensors({"fc1.weight": np.zeros((3, 784), np.float32)}, lesson)


def test_a_count_of_steps_is_taken_over_and_not_needed():
    lesson = LESSONS["adam"]
    assert int(state_of_tensors(changed(batch_norm1__num_batches_tracked=lambda _: np.int64(77)), lesson).step) == 77
    without = changed(batch_norm1__num_batches_tracked=None, batch_norm2__num_batches_tracked=None)
    assert int(state_of_tensors(without, lesson).step) == 0
    huge = changed(batch_norm1__num_batches_tracked=lambda _: np.int64(2**62))
    assert int(state_of_tensors(huge, lesson).step) == 2**31 - 1


WHOLE = exported(net_of("relu", hidden=(3,)), "safetensors")


@settings(max_examples=150, deadline=None)
@given(st.one_of(
    st.binary(max_size=200),
    st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]),
    st.tuples(st.integers(0, 400), st.integers(1, 255)).map(
        lambda flip: WHOLE[: flip[0]] + bytes([WHOLE[flip[0]] ^ flip[1]]) + WHOLE[flip[0] + 1 :]
    ),
))  # fmt: skip
def test_any_bytes_are_a_net_or_a_sentence(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(content)
    try:
        net = read_safetensors(file, "relu")
    except UserError:
        return
    assert net.state.params["fc1"]["kernel"].shape[0] == 784


LOADED = """
import sys
sys.modules["mnist_jax"] = None
import numpy as np
from jax import export
with open(sys.argv[1], "rb") as file:
    program = export.deserialize(bytearray(file.read()))
images = np.load(sys.argv[2])
assert program.call(images[:1]).shape == (1, 10)
np.save(sys.argv[3], program.call(images))
"""


@pytest.mark.parametrize("lesson_id", ["mlp", "adam"])
def test_stablehlo_runs_without_this_package(lesson_id, toy_ladder, toy, run_main, tmp_path):
    file = tmp_path / "net.stablehlo"
    arguments = ["export", toy_ladder, "--format", "stablehlo", "--lesson", lesson_id, "--out", file]
    assert run_main(cli.main, *arguments)[0] == 0
    np.save(tmp_path / "images.npy", toy.images)
    subprocess.run(
        [sys.executable, "-c", LOADED, file, tmp_path / "images.npy", tmp_path / "out.npy"], check=True, cwd=tmp_path
    )
    (net,) = read_nets(toy_ladder, lesson_id=lesson_id)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), logits(net.state, toy.images), atol=1e-5)
    assert file.stat().st_size < 2_500_000  # the net, and not its optimizer's state as well


def test_files_that_are_there_stay(toy_ladder, run_main, tmp_path):
    (tmp_path / "mine").write_text("mine")
    status, _, err = run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", tmp_path / "mine")
    assert status == 2
    assert "already exists" in err
    assert (tmp_path / "mine").read_text() == "mine"
    status, _, err = run_main(cli.main, "export", toy_ladder, "--format", "onnx", "--out", tmp_path / "new")
    assert status == 2
    assert "safetensors, stablehlo" in err
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_by_default_it_is_the_last_lesson_and_said_so(toy_ladder, run_main, tmp_path):
    status, out, _ = run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", tmp_path / "net")
    assert status == 0
    assert "lesson adam, seed 0, after epoch 2" in out
    with safe_open(tmp_path / "net", framework="numpy") as file:
        assert file.metadata()["mnist_jax.lesson_id"] == "adam"


def test_an_imported_run_is_described_and_not_overwritten(toy_ladder, run_main, tmp_path, monkeypatch):
    (tmp_path / "net.safetensors").write_bytes(exported(net_of("adam"), "safetensors"))
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    arguments = ["import", tmp_path / "net.safetensors", "--lesson", "adam", "--data", digits, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.nets.exchange.Checkpoints.save", failing)
        assert run_main(cli.main, *arguments)[0] == 2
    assert not (out / RESULTS).exists()
    assert run_main(cli.main, *arguments)[0] == 0
    results = json.loads((out / RESULTS).read_text())
    assert results["config"]["imported"]["file"] == "net.safetensors"
    assert results["config"]["epochs"] == 0
    assert [path.name for path in (out / CHECKPOINTS).iterdir()] == ["adam"]
    status, _, err = run_main(cli.main, *arguments)
    assert status == 2
    assert "already holds a run" in err


def test_another_net_after_a_failure_is_the_other_net(toy_ladder, run_main, tmp_path, monkeypatch):
    """Nothing of the first is left in the folder."""
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    for number, lesson_id in enumerate(("adam", "adam")):
        net = net_of(lesson_id)
        net = dataclasses.replace(net, state=read_nets(toy_ladder, lesson_id="adam", seed=number)[0].state)
        (tmp_path / f"{number}").write_bytes(exported(net, "safetensors"))

    def arguments(number):
        return ["import", tmp_path / f"{number}", "--lesson", "adam", "--data", digits, "--out", out]

    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.nets.exchange.write_results", failing)
        assert run_main(cli.main, *arguments(0))[0] == 2
    assert run_main(cli.main, *arguments(1))[0] == 0
    assert_same_net(read_nets(out)[0].state, read_nets(toy_ladder, lesson_id="adam", seed=1)[0].state)


def test_a_checkpoint_that_is_there_is_not_lost(toy_ladder, run_main, tmp_path):
    """A run whose results.json was removed."""
    (tmp_path / "net").write_bytes(exported(net_of("adam"), "safetensors"))
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    arguments = ["import", tmp_path / "net", "--lesson", "adam", "--data", digits, "--out", out]
    assert run_main(cli.main, *arguments)[0] == 0
    (out / RESULTS).unlink()
    before = sorted(out.rglob("*"))
    status, _, err = run_main(cli.main, *arguments)
    assert status == 2
    assert "already holds a run" in err
    assert sorted(out.rglob("*")) == before


def test_a_net_whose_outputs_are_not_finite_is_refused(toy_ladder, run_main, tmp_path):
    tensors = {name: np.asarray(tensor) for name, tensor in pytorch_tensors(net_of("relu").state).items()}
    tensors = {name: tensor * np.float32(1e25) for name, tensor in tensors.items()}
    (tmp_path / "net").write_bytes(save(tensors))
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    status, _, err = run_main(cli.main, "import", tmp_path / "net", "--lesson", "relu", "--data", digits, "--out", out)
    assert status == 2
    assert "not finite" in err
    assert not out.exists()


def test_a_path_with_a_tilde(toy_ladder, run_main, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ["--format", "safetensors", "--out", "~/net"]
    assert run_main(cli.main, "export", toy_ladder, *options)[0] == 0
    digits = toy_ladder.parent / "toy"
    arguments = ["import", "~/net", "--lesson", "adam", "--data", digits, "--out", tmp_path / "run"]
    assert run_main(cli.main, *arguments)[0] == 0


@pytest.mark.parametrize("place", ["file/net", "no folder/net", "n" * 300, "."])
def test_a_place_that_cannot_be_written_is_said(toy_ladder, run_main, tmp_path, place):
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    status, _, err = run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", tmp_path / place)
    assert status == 2
    assert "--out" in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def failing(*_):
    raise UserError("no space")
