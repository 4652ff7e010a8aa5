"""The floor makes a step's matrix products, and as many steps as an epoch."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params
from timing import floors

from mnist_jax import LESSONS, Examples, init_state, train_step


def products(program):
    """For each matrix product in a jaxpr, inner ones too, the sizes of its three matrices."""
    found = Counter()
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            variables = [*equation.invars, *equation.outvars]
            found[tuple(sorted(size for variable in variables for size in variable.aval.shape))] += 1
        for inner in jaxprs_in_params(equation.params):
            found += products(inner)
    return found


@pytest.mark.parametrize("lesson_id", ["mlp", "adam"])
def test_floor_makes_the_products_of_a_step(lesson_id):
    state = jax.eval_shape(functools.partial(init_state, LESSONS[lesson_id]), jax.random.key(0))
    batch = Examples(jnp.zeros((32, 28, 28), jnp.uint8), jnp.zeros(32, jnp.uint8))
    step = jax.make_jaxpr(train_step)(state, batch)
    weights = [jnp.zeros(shape) for shape in ((784, 512), (512, 256), (256, 10))]
    floor = jax.make_jaxpr(functools.partial(floors.floor_epoch, steps=7))(weights, jnp.zeros((32, 784)))
    assert products(floor.jaxpr) == products(step.jaxpr)
    (scan,) = (equation for equation in floor.jaxpr.eqns if equation.primitive.name == "scan")
    assert products(scan.params["jaxpr"].jaxpr).total() == 8
    assert scan.params["length"] == 7


def test_floors_make_as_many_steps_as_an_epoch(dataset, monkeypatch):
    made = []

    def floor_epoch(weights, inputs, steps):
        made.append(steps)
        return weights

    monkeypatch.setattr(floors, "floor_epoch", floor_epoch)
    found = floors.floors(LESSONS["mlp"], dataset)
    assert list(found) == ["floor", "tuned_floor"]
    for epochs in found.values():
        next(epochs)
    assert set(made) == {3}  # 66 images in batches of 32
