"""Variances of signals and gradients from layer to layer: what theory predicts for the start, and what is measured.

The theory is that of a wide net with random weights (He et al. 2015, arXiv:1502.01852; Poole et al. 2016,
arXiv:1606.05340). With kernels of variance s / fan_in (He: s = 2, PyTorch's default: s = 1/3), biases of variance b,
pre-activations z of layer l normal with variance q_l, and w_l units in layer l:

    q_(l+1) = s E[f(z)^2] + b                  variance of pre-activations, upwards
    g_l = s (w_(l+1) / w_l) E[f'(z)^2] g_(l+1)    mean square of the gradient with respect to them, downwards

ReLU has E[f(z)^2] = q / 2 and E[f'(z)^2] = 1/2, so He keeps variances in both directions and the default shrinks them
to a sixth per layer. q is a mean square; the variance lacks the square of the mean, up to a tenth at ten outputs. Under
batch norm z has variance 1 whatever came before, and g_l is divided by the variance v_l of a unit over the batch,
v_(l+1) = s Var[f(z)]: s cancels, and gradients do not depend on the initialisation. He's kernels being sqrt(6) times
larger, a step turns them 1 / sqrt(6) as far at the start (and a sixth as far where the output kernels are alike).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mnist_jax.lessons import INITIALISATIONS, PIXELS, Lesson
from mnist_jax.model import Network
from mnist_jax.train import Examples, TrainState, cross_entropy, epoch_order, init_state, train_step

STEPS = (0, 1, 10, 100, 1000)  # when to measure
KERNEL_SCALE = {"pytorch": 1 / 3, "he": 2.0}  # fan_in times the kernel's variance
MEASURED_ON = 1_000  # training images
QUANTITIES = ("preactivation", "gradient", "kernel_gradient")


def nets(base: Lesson) -> dict[str, Lesson]:
    """Name -> lesson: two activations, without and with batch norm, two initialisations; no dropout."""
    return {
        f"{activation}{', batch norm' if batch_norm else ''}, {initialisation}": dataclasses.replace(
            base, activation=activation, batch_norm=batch_norm, initialisation=initialisation, dropout_rate=0.0
        )
        for activation in ("sigmoid", "relu")
        for batch_norm in (False, True)
        for initialisation in INITIALISATIONS
    }


class Theory(NamedTuple):
    """Predictions at the start, one entry per dense layer from the first; see the top of this module.

    Attributes:
      preactivation: q, over units and images.
      gradient_ratio: g of a layer divided by g of the next; one entry fewer.
    """

    preactivation: list[float]
    gradient_ratio: list[float]


def theory(lesson: Lesson, mean_square: float, variance: float) -> Theory:
    """Predict what a wide net of this lesson does before the first step.

    Args:
      lesson: its widths, activation, batch norm and initialisation are used.
      mean_square: mean square of the input, over images and pixels, with values from 0 to 1.
      variance: variance of the input over images, averaged over pixels.
    """
    scale = KERNEL_SCALE[lesson.initialisation]
    preactivation, gradient_ratio = [], []
    for layer, fan_in in enumerate(lesson.widths[:-1]):
        preactivation.append(scale * mean_square + 1 / (3 * fan_in))
        if layer < len(lesson.hidden):
            moments = normal_moments(lesson.activation, 1.0 if lesson.batch_norm else preactivation[-1])
            divisor = scale * variance if lesson.batch_norm else 1.0
            gradient_ratio.append(scale * lesson.widths[layer + 2] / lesson.widths[layer + 1] * moments.slope / divisor)
            mean_square, variance = moments.mean_square, moments.variance
    return Theory(preactivation, gradient_ratio)


class Moments(NamedTuple):
    """Moments of f(z) for a normal z of mean 0: mean square, variance, and mean square of the derivative (`slope`)."""

    mean_square: float
    variance: float
    slope: float


def normal_moments(activation: str, variance: float) -> Moments:
    """Moments of an activation's output for normal inputs of this variance, computed on a fine grid."""
    nodes = np.linspace(-8, 8, 4000)  # an even number: none at 0, where ReLU has its kink
    weights = np.exp(-(nodes**2) / 2)
    weights /= weights.sum()
    function = getattr(jax.nn, activation)
    z = jnp.asarray(nodes * variance**0.5, jnp.float32)
    outputs, slopes = np.asarray(function(z), float), np.asarray(jax.vmap(jax.grad(function))(z), float)
    mean_square = float(weights @ outputs**2)
    return Moments(mean_square, mean_square - float(weights @ outputs) ** 2, float(weights @ slopes**2))


@jax.jit
def measure(state: TrainState, examples: Examples) -> dict[str, dict[str, jax.Array]]:
    """Quantity -> `mean` and `variance`, each `[layers]`, of a net in training mode.

    `preactivation` and `gradient` are taken over all units and images, where the gradient is n times the mean loss's
    with respect to an image's pre-activation; `kernel_gradient` is the mean loss's, over the kernel's entries.
    """
    layers = [f"fc{number}" for number in range(1, 2 + len(state.lesson.hidden))]

    def loss(taps: dict[str, jax.Array], params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean loss with `taps` added to the pre-activations, and the pre-activations without them."""
        seen = {}

        def tap(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            out = call(*args, **kwargs)
            if not isinstance(context.module, nn.Dense):
                return out
            name = str(context.module.name)
            seen[name] = out
            return out + taps[name]

        with nn.intercept_methods(tap):
            logits, _ = Network(state.lesson).apply(
                {"params": params, "batch_stats": state.batch_stats}, examples.images, train=True, mutable=True
            )
        return cross_entropy(logits, examples.labels), seen

    zeros = {name: jnp.zeros((examples.size, state.params[name]["bias"].size)) for name in layers}
    (gradients, kernels), seen = jax.grad(loss, argnums=(0, 1), has_aux=True)(zeros, state.params)
    arrays = {
        "preactivation": [seen[name] for name in layers],
        "gradient": [gradients[name] * examples.size for name in layers],
        "kernel_gradient": [kernels[name]["kernel"] for name in layers],
    }
    return {
        quantity: {
            "mean": jnp.stack([array.mean() for array in by_layer]),
            "variance": jnp.stack([array.var() for array in by_layer]),
        }
        for quantity, by_layer in arrays.items()
    }


def follow(
    lesson: Lesson, examples: Examples, seed: int, steps: Sequence[int] = STEPS
) -> dict[str, dict[str, list[list[float]]]]:
    """Train one run and measure it: quantity -> `mean` and `variance`, each a list per layer for each of `steps`."""
    state = init_state(lesson, jax.random.key(seed))
    order = epoch_order(state.order_key, examples.size, steps[-1] * lesson.batch_size).reshape(steps[-1], -1)
    probe = Examples(examples.images[:MEASURED_ON], examples.labels[:MEASURED_ON])
    measured = []
    for before, after in itertools.pairwise((0, *steps)):
        for batch in order[before:after]:
            state, _ = train_step(state, Examples(examples.images[batch], examples.labels[batch]))
        measured.append(jax.device_get(measure(state, probe)))
    return {
        quantity: {
            kind: [[float(value) for value in found[quantity][kind]] for found in measured]
            for kind in ("mean", "variance")
        }
        for quantity in measured[0]
    }


def summary(lesson: Lesson, runs: Sequence[Mapping[str, Any]], digits: Examples) -> dict[str, Any]:
    """A net's entry in results.json: `theory`, and for each quantity `mean` and `variance` of every run.

    Args:
      lesson: lesson of the net.
      runs: what `follow` measured.
      digits: training digits, the first of which were measured.
    """
    pixels = digits.images[:MEASURED_ON].reshape(-1, PIXELS) / 255
    expected = theory(lesson, float((pixels**2).mean()), float(pixels.var(0).mean()))
    return {
        "theory": predictions(expected, [run["gradient"]["variance"][0][-1] for run in runs]),
        **{
            quantity: {kind: [run[quantity][kind] for run in runs] for kind in ("mean", "variance")}
            for quantity in QUANTITIES
        },
    }


def predictions(theory: Theory, last_gradients: Sequence[float]) -> dict[str, list[float]]:
    """Predicted variances of all layers at the start; those of gradients relative to the last layer's in each run."""
    ratios = theory.gradient_ratio
    last = float(np.mean(last_gradients))
    gradient = [last * float(np.prod(ratios[layer:])) for layer in range(len(ratios) + 1)]
    return {"preactivation": theory.preactivation, "gradient": gradient}
