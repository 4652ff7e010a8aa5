"""The theory against integrals and against what is measured."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from mnist_jax import LESSONS, Network, init_state
from mnist_jax.studies.initialisation import measure, normal_moments, theory

DEEP = (256, 128, 256, 384, 256, 128, 128, 256)  # unequal, so that fan-in is not fan-out


@pytest.mark.parametrize("variance", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_moments_are_the_integrals(activation, variance):
    function = getattr(jax.nn, activation)
    density = stats.norm(scale=variance**0.5).pdf
    z = np.linspace(-10 * variance**0.5, 10 * variance**0.5, 20_001)
    outputs, slopes = (np.asarray(f(z.astype(np.float32)), float) for f in (function, jax.vmap(jax.grad(function))))
    mean, square, slope = (integrate.simpson(y * density(z), x=z) for y in (outputs, outputs**2, slopes**2))
    assert normal_moments(activation, variance) == pytest.approx((square, square - mean**2, slope), rel=2e-3)


def test_relu_factors_match_he():
    moments = normal_moments("relu", 3.0)
    assert moments.mean_square == pytest.approx(3.0 / 2)
    assert moments.slope == pytest.approx(1 / 2)
    deep = dataclasses.replace(LESSONS["relu"], dropout_rate=0.0, hidden=(256,) * 8, initialisation="he")
    kept = theory(deep, 0.1, 0.05)
    assert kept.gradient_ratio[:-1] == pytest.approx([1.0] * 7)
    assert np.diff(kept.preactivation) == pytest.approx(0, abs=0.002)  # what biases add
    shrunk = theory(dataclasses.replace(deep, initialisation="pytorch"), 0.1, 0.05)
    assert shrunk.gradient_ratio[:-1] == pytest.approx([1 / 6] * 7)


@pytest.mark.parametrize("initialisation", ["he", pytest.param("pytorch", marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch_norm", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_deep_stack_follows_the_theory(toy, activation, batch_norm, initialisation):
    lesson = dataclasses.replace(
        LESSONS["he"], hidden=DEEP, dropout_rate=0.0,
        activation=activation, batch_norm=batch_norm, initialisation=initialisation,
    )  # fmt: skip
    measured = [measure(init_state(lesson, jax.random.key(seed)), toy) for seed in range(6)]
    variance = {
        name: np.mean([m[name]["variance"] for m in measured], axis=0) for name in ("preactivation", "gradient")
    }
    pixels = toy.images.reshape(-1, 784) / 255
    predicted = theory(lesson, (pixels**2).mean(), pixels.var(0).mean())
    # Ten units in the last layer and correlated images: each factor is a mean of few draws.
    np.testing.assert_allclose(variance["preactivation"][:-1], predicted.preactivation[:-1], rtol=0.35)
    hidden = variance["gradient"][:-1]
    np.testing.assert_allclose(hidden[:-1] / hidden[1:], predicted.gradient_ratio[:-1], rtol=0.35)
    # Over all layers the errors average out, where a wrong factor would grow to its power.
    over_all = np.prod(predicted.gradient_ratio[:-1])
    np.testing.assert_allclose(np.log(hidden[0] / hidden[-1]), np.log(over_all), atol=0.5)


def test_gradients_are_those_of_the_loss(toy):
    """With respect to the last pre-activations it is softmax minus one-hot."""
    lesson = dataclasses.replace(LESSONS["relu"], dropout_rate=0.0)
    state = init_state(lesson, jax.random.key(0))
    measured = measure(state, toy)
    outputs = np.asarray(Network(lesson).apply({"params": state.params}, toy.images, train=False))
    expected = np.asarray(jax.nn.softmax(outputs)) - np.eye(10)[toy.labels]
    assert measured["gradient"]["variance"][-1] == pytest.approx(expected.var(), rel=1e-4)
    assert measured["preactivation"]["mean"][-1] == pytest.approx(outputs.mean(), rel=1e-4)
