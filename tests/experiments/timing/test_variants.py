"""Ours with other options of XLA."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from timing import epochs, variants

from mnist_jax import LESSONS

MLP = dataclasses.replace(LESSONS["mlp"], hidden=(8, 4))


@pytest.mark.parametrize("options", variants.OPTIONS["gpu"].values(), ids=variants.OPTIONS["gpu"])
def test_xla_knows_the_options(options):
    """Also on a CPU, which ignores them; of another name or value it says so."""
    lowered = jax.jit(lambda number: number + 1).lower(jnp.zeros(()))
    lowered.compile(compiler_options=options)
    for wrong in ({f"{name}_": value for name, value in options.items()}, dict.fromkeys(options, "x")):
        with pytest.raises(jax.errors.JaxRuntimeError):
            lowered.compile(compiler_options=wrong)


def test_a_cpu_has_none(dataset):
    notices = []
    assert variants.find_variants(["torch_in_memory", "ours_loop_unrolled"], dataset, notices.append) == {}
    assert notices == ["Left out, because this is no GPU: ours_loop_unrolled."]


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
        next(variants.variant(dataset, {"xla_any": "x"}, MLP, 32))
