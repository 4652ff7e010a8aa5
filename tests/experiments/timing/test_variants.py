"""Ours on other devices, or with other options of XLA."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from timing import epochs, variants

from mnist_jax import LESSONS
from mnist_jax.runs.devices import Placement

MLP = dataclasses.replace(LESSONS["mlp"], hidden=(8, 4))


@pytest.mark.parametrize("options", variants.OPTIONS["gpu"].values(), ids=variants.OPTIONS["gpu"])
def test_xla_knows_the_options(options):
    """Even on a CPU, which ignores them but would report an unknown name or value."""
    lowered = jax.jit(lambda number: number + 1).lower(jnp.zeros(()))
    lowered.compile(compiler_options=options)
    for wrong in ({f"{name}_": value for name, value in options.items()}, dict.fromkeys(options, "x")):
        with pytest.raises(jax.errors.JaxRuntimeError):
            lowered.compile(compiler_options=wrong)


def test_unsupported_variants_are_left_out(dataset):
    notices = []
    assert variants.find_variants(["torch_in_memory", "ours_loop_unrolled"], dataset, notices.append) == {}
    assert notices == ["Left out, because they cannot run on these devices: ours_loop_unrolled."]


@pytest.mark.parametrize(
    ("name", "runs", "placement"), [("ours_per_core", 4, Placement()), ("ours_split", 1, Placement(devices_per_run=4))]
)
def test_cores_are_used_in_two_ways(dataset, monkeypatch, name, runs, placement):
    """On four devices (conftest.py): a run on each, or one on all."""
    started = []

    def start(lesson, data, runs, placement):
        started.append((data.epoch_length, len(set(runs)), placement))
        return epochs.start(lesson, data, runs, placement)

    monkeypatch.setattr(variants, "start", start)
    found = variants.find_variants([name], dataset, pytest.fail)
    next(found[name](MLP, 64))
    assert started == [(64, runs, placement)]


@pytest.mark.parametrize(("count", "left_out"), [(1, ["ours_per_core", "ours_split"]), (3, ["ours_split"])])
def test_cores_that_cannot_be_used_are_left_out(dataset, monkeypatch, count, left_out):
    """A single core is what one run has anyway, and three do not divide 512 units."""
    monkeypatch.setattr(jax, "devices", lambda: [None] * count)
    notices = []
    found = variants.find_variants(["ours_per_core", "ours_split"], dataset, notices.append)
    assert notices == [f"Left out, because they cannot run on these devices: {', '.join(left_out)}."]
    assert set(found) == {"ours_per_core", "ours_split"} - set(left_out)


def test_named_variant_is_ours_with_its_options(dataset, monkeypatch):
    compiled = []

    class Trainer(epochs.Trainer):
        def compile(self, states, options):
            compiled.append(options)
            super().compile(states)

    monkeypatch.setattr(epochs, "Trainer", Trainer)
    monkeypatch.setitem(variants.OPTIONS, "cpu", variants.OPTIONS["gpu"])
    found = variants.find_variants(["ours_loop_unrolled", "torch_compile"], dataset, pytest.fail)
    assert list(found) == ["ours_loop_unrolled"]
    trained = found["ours_loop_unrolled"](MLP, 32)
    next(trained)
    next(trained)
    assert compiled == [variants.OPTIONS["gpu"]["ours_loop_unrolled"]]


def test_options_reach_the_compiler(dataset):
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option: 'xla_any'"):
        next(variants.compiled_with(dataset, {"xla_any": "x"}, MLP, 32))
