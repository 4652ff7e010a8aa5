import dataclasses
import json

import jax
import numpy as np
import pytest
from helpers.exchange import assert_same_net, failing, net_of
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from mnist_jax import LESSONS, UserError, init_state
from mnist_jax.cli import commands as cli
from mnist_jax.lessons import lesson_to_json
from mnist_jax.nets.exchange import exported, pytorch_tensors, read_safetensors, state_of_tensors

LAYERS = {"fc1": (784, 512), "fc2": (512, 256), "fc3": (256, 10)}


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_tensor_names_and_shapes_match_the_notebooks(lesson_id):
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
def test_safetensors_round_trip(lesson_id, tmp_path):
    net = net_of(lesson_id)
    (tmp_path / "net").write_bytes(exported(net, "safetensors"))
    found = read_safetensors(tmp_path / "net", lesson_id, seed=5)
    assert_same_net(net.state, found.state)
    assert (found.epoch, found.state.lesson) == (0, net.state.lesson)
    assert int(found.state.step) == 0


def test_changed_lesson_fields_are_kept(tmp_path):
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
        (changed(fc4__scale=lambda _: np.zeros(3, np.float32)), "fc4.scale is not part"),
        (changed(batch_norm1__num_batches_tracked=lambda _: np.float32("nan")), "tracked is not a whole number"),
        (changed(batch_norm1__num_batches_tracked=lambda _: np.zeros(2, int)), "tracked is not a whole number"),
        (changed(fc1__num_batches_tracked=lambda _: np.int64(3)), "fc1.num_batches_tracked is not part"),
        (changed(fc9__num_batches_tracked=lambda _: np.int64(3)), "fc9.num_batches_tracked is not part"),
        (changed(fc1__weight=np.transpose), r"fc1.weight has shape \(784, 512\)"),
        (changed(fc3__weight=lambda a: a[:9]), r"has shape \(9, 256\); the lesson's net needs \(10, 256\)"),
        (changed(fc1__bias=lambda a: a.astype(np.float16)), "fc1.bias is float16, not float32"),
        (changed(fc1__bias=lambda a: a * np.float32("nan")), "fc1.bias holds a value that is not finite"),
        (changed(batch_norm2__running_var=lambda a: -a), "A running variance is below 0"),
        (
            {name: tensor for name, tensor in changed().items() if not name.startswith("fc3")},
            "fc3.bias is missing; the file has",
        ),
        (
            {f"module.{name}": tensor for name, tensor in changed().items()},
            "fc1.bias is missing; the file has module.",
        ),
        ({"fc1.weight": np.zeros((10, 784), np.float32)}, "fc1.bias is missing; the file has fc1.weight"),
        ({}, "fc1.bias is missing; the file has nothing"),
    ],
)
def test_tensors_of_another_net_are_refused(tensors, says, run_main, tmp_path):
    (tmp_path / "net").write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))
    status, _, err = run_main(cli.main, "import", tmp_path / "net", "--lesson", "adam", "--out", tmp_path / "out")
    assert status == 2
    with pytest.raises(UserError, match=says):
        read_safetensors(tmp_path / "net", "adam")
    assert "does not hold the net of lesson adam" in err
    assert not (tmp_path / "out").exists()


def saying(lesson, **changed):
    """A file of a small net whose metadata say this of its lesson."""
    values = {**lesson_to_json(lesson), **changed}
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
def test_claimed_sizes_are_checked_before_allocation(content, says, tmp_path, monkeypatch):
    (tmp_path / "net").write_bytes(content)
    monkeypatch.setattr("mnist_jax.nets.exchange.init_net", failing)
    with pytest.raises(UserError, match=says):
        read_safetensors(tmp_path / "net", "adam")


def test_tensors_are_checked_before_a_net_is_made(monkeypatch):
    """A file of a few bytes whose lesson would be a net of 0.4 GB."""

    def traced_only(lesson, key):
        assert isinstance(key, jax.core.Tracer)
        return init_state(lesson, key)

    monkeypatch.setattr("mnist_jax.nets.exchange.init_net", traced_only)
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(100_000, 200))
    with pytest.raises(UserError, match=r"fc1\.bias is missing"):
        state_of_tensors({"fc1.weight": np.zeros((3, 784), np.float32)}, lesson)


def test_step_count_is_imported_but_optional():
    lesson = LESSONS["adam"]
    assert int(state_of_tensors(changed(batch_norm1__num_batches_tracked=lambda _: np.int64(77)), lesson).step) == 77
    without = changed(batch_norm1__num_batches_tracked=None, batch_norm2__num_batches_tracked=None)
    assert int(state_of_tensors(without, lesson).step) == 0
    huge = changed(batch_norm1__num_batches_tracked=lambda _: np.int64(2**62))
    assert int(state_of_tensors(huge, lesson).step) == 2**31 - 1


WHOLE = exported(net_of("relu", hidden=(3,)), "safetensors")


@given(st.one_of(
    st.binary(max_size=200),
    st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]),
    st.tuples(st.integers(0, 400), st.integers(1, 255)).map(
        lambda flip: WHOLE[: flip[0]] + bytes([WHOLE[flip[0]] ^ flip[1]]) + WHOLE[flip[0] + 1 :]
    ),
))  # fmt: skip
def test_any_bytes_are_a_net_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(content)
    try:
        net = read_safetensors(file, "relu")
    except UserError:
        return
    assert net.state.params["fc1"]["kernel"].shape[0] == 784
