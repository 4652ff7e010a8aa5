"""What does He initialisation do, and when does it matter?

    python experiments/initialisation.py --data FOLDER --out DIR

measures mean and variance of every layer's pre-activations (what a dense layer puts out, before batch norm) and of
the loss's gradients with respect to them and to the kernels, at the start and after 1, 10, 100 and 1,000 steps, for
PyTorch's default and He, sigmoid and ReLU, with and without batch norm. Dropout is off: it is not the question, and
multiplies every variance after it by 1 / (1 - rate). Written to DIR: `results.json`, `README.md`, `initialisation.png`.

The theory is that of a wide net with random weights (He et al. 2015, arXiv:1502.01852; Poole et al. 2016,
arXiv:1606.05340). With kernels of variance s / fan_in (He: s = 2, PyTorch's default: s = 1/3), biases of variance b,
pre-activations z of layer l normal with variance q_l, and w_l units in layer l:

    q_(l+1) = s E[f(z)^2] + b                  variance of pre-activations, upwards
    g_l = s (w_(l+1) / w_l) E[f'(z)^2] g_(l+1)    mean square of the gradient with respect to them, downwards

ReLU has E[f(z)^2] = q / 2 and E[f'(z)^2] = 1/2, so He keeps variances in both directions and the default shrinks them
to a sixth a layer. q is a mean square; the variance lacks the square of the mean, up to a tenth at ten outputs. Under
batch norm z has variance 1 whatever came before, and g_l is divided by the variance v_l of a unit over the batch,
v_(l+1) = s Var[f(z)]: s cancels, and gradients do not depend on the initialisation. He's kernels being sqrt(6) times
larger, a step turns them 1 / sqrt(6) as far at the start (and a sixth as far where the output kernels are alike).

Answer: He keeps the size of signals under ReLU, where the default shrinks it; before a batch norm the size does not
matter, but a larger kernel learns more slowly. relu, he: from fc1 to fc2 the variance is multiplied by 0.97 (theory
1.00). relu, pytorch: from fc1 to fc2 the variance is multiplied by 0.18 (theory 0.18). Under batch norm the first
gradient of He's fc1, relative to the kernel's own size, is 0.42 times the default's (theory 0.41). Recorded in
experiments/results/initialisation by

    python experiments/initialisation.py --data data/mnist --seeds 3 --out experiments/results/initialisation
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mnist_jax.cli.arguments import DataArguments, JaxArguments, OutArguments
from mnist_jax.cli.start import parsed, start_jax
from mnist_jax.cli.study import begin_study
from mnist_jax.cli.terminal import make_console, table
from mnist_jax.lessons import INITIALISATIONS, Lesson, lesson_by_id
from mnist_jax.model import CLASSES, Network
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import check_runs
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.runs.records import runs_of_seeds
from mnist_jax.train import Examples, TrainState, cross_entropy, epoch_order, init_state, train_step
from mnist_jax.views.figures import initialisation_figure
from mnist_jax.views.tensorboard import Point
from mnist_jax.views.words import count_of, data_words, device_words, markdown_table

STEPS = (0, 1, 10, 100, 1000)
KERNEL_SCALE = {"pytorch": 1 / 3, "he": 2.0}  # fan_in times the kernel's variance
MEASURED_ON = 1_000  # training images
ALL_HEADER = ["net", "what", "start", *(f"{step:,} steps" for step in STEPS[1:])]
NOTE = (
    f"Variances of fc1, fc2 and fc3, over units and {MEASURED_ON:,} training images. Gradients: n times the mean "
    "loss's with respect to the pre-activations; theory takes fc3's as measured and tells the others."
)
QUICK_NOTICE = "QUICK: 1 seed. This is not the study; do not quote it."
WORDS = {"preactivation": "pre-activations", "gradient": "gradients", "kernel_gradient": "kernel gradients"}
HEADER = ["net", "variance of", "theory, at the start", "at the start", f"after {STEPS[-1]:,} steps"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Follow variances of pre-activations and gradients through the layers and through training.

    Attributes:
      lesson: whose widths, optimizer and batch size.
      seeds: runs of each net, from which means are taken.
      quick: one seed. Not the study.
    """

    lesson: str = "he"
    seeds: int = 5
    quick: bool = False
    digits: DataArguments = DataArguments()
    keeping: OutArguments = OutArguments()
    jax: JaxArguments = JaxArguments()


class Theory(NamedTuple):
    """Predictions at the start, an entry a dense layer from the first; see the module's docstring.

    Attributes:
      preactivation: q, over units and images.
      gradient_ratio: g of a layer over g of the next; one entry less.
    """

    preactivation: list[float]
    gradient_ratio: list[float]


def theory(lesson: Lesson, mean_square: float, variance: float) -> Theory:
    """What a wide net of this lesson does before the first step.

    Args:
      lesson: widths, activation, batch norm and initialisation.
      mean_square: of the input, over images and pixels, values in 0 to 1.
      variance: of the input over images, mean over pixels.
    """
    scale = KERNEL_SCALE[lesson.initialisation]
    widths = (*lesson.hidden, CLASSES)
    preactivation, gradient_ratio = [], []
    for layer, fan_in in enumerate((784, *lesson.hidden)):
        preactivation.append(scale * mean_square + 1 / (3 * fan_in))
        if layer < len(lesson.hidden):
            moments = normal_moments(lesson.activation, 1.0 if lesson.batch_norm else preactivation[-1])
            divisor = scale * variance if lesson.batch_norm else 1.0
            gradient_ratio.append(scale * widths[layer + 1] / widths[layer] * moments.slope / divisor)
            mean_square, variance = moments.mean_square, moments.variance
    return Theory(preactivation, gradient_ratio)


class Moments(NamedTuple):
    """Of f(z) for a normal z of mean 0: its mean square, its variance, and the mean square of its derivative."""

    mean_square: float
    variance: float
    slope: float


def normal_moments(activation: str, variance: float) -> Moments:
    """Moments of an activation's output for normal inputs of this variance, summed over a fine grid."""
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

    `preactivation` and `gradient` are over all units and images, the gradient being n times the mean loss's with
    respect to an image's pre-activation; `kernel_gradient` is over the kernel's entries, of the mean loss.
    """
    layers = [f"fc{number}" for number in range(1, 2 + len(state.lesson.hidden))]

    def loss(taps: dict[str, jax.Array], params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean loss, with something added to every pre-activation, and the pre-activations."""
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


def follow(lesson: Lesson, examples: Examples, seed: int) -> dict[str, dict[str, list[list[float]]]]:
    """Quantity -> `mean` and `variance`, for each of `STEPS` a number a layer, of one run."""
    state = init_state(lesson, jax.random.key(seed))
    order = epoch_order(state.order_key, examples.size, STEPS[-1] * lesson.batch_size).reshape(STEPS[-1], -1)
    probe = Examples(examples.images[:MEASURED_ON], examples.labels[:MEASURED_ON])
    measured = []
    for before, after in itertools.pairwise((0, *STEPS)):
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


def points(found: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> list[Point]:
    """What `follow` returns, for TensorBoard."""
    return [
        (
            step,
            {
                f"{kind} of {WORDS[quantity]}/fc{layer}": value
                for quantity, kinds in found.items()
                for kind, by_step in kinds.items()
                for layer, value in enumerate(by_step[place], start=1)
            },
        )
        for place, step in enumerate(STEPS)
    ]


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


def run(arguments: Arguments) -> None:
    """Measure, compare with theory, write."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, seeds=1)
    chosen = nets(lesson_by_id(arguments.lesson))
    seeds = range(arguments.seeds)
    start_jax(arguments.jax)
    data = arguments.digits.load("slides")
    for lesson in chosen.values():
        check_runs(lesson, data, runs_of_seeds(seeds), epochs=1)
    console = make_console()
    if arguments.quick:
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    described = describe_run(
        "initialisation",
        data,
        chosen,
        command=command_line("python experiments/initialisation.py"),
        lesson=arguments.lesson,
        seeds=list(seeds),
        steps=list(STEPS),
        quick=arguments.quick,
    )
    pixels = data.train.images[:MEASURED_ON].reshape(-1, 784) / 255
    examples = jax.device_put(data.train)
    parts = [{"net": name, "seed": seed} for name in chosen for seed in seeds]

    def measured(net: str, seed: int) -> dict[str, Any]:
        return {"run": follow(chosen[net], examples, seed)}

    with begin_study(described, data, arguments.keeping, console) as study:
        found = study.measure(parts, measured, lambda part: points(part["run"]))
        runs = {name: [entry["run"] for entry in found if entry["net"] == name] for name in chosen}
        input_moments = float((pixels**2).mean()), float(pixels.var(0).mean())
        compared = {
            name: {
                "theory": predictions(
                    theory(lesson, *input_moments), [run["gradient"]["variance"][0][-1] for run in runs[name]]
                ),
                **{
                    quantity: {kind: [run[quantity][kind] for run in runs[name]] for kind in ("mean", "variance")}
                    for quantity in WORDS
                },
            }
            for name, lesson in chosen.items()
        }
        results = {**study.journal.header, "nets": compared}
        wrote = study.finish(results, report(results))
    console.print(table(what_was_measured(results), HEADER, rows(results["nets"])))
    for sentence in [*verdict(results["nets"]), *([QUICK_NOTICE] if arguments.quick else [])]:
        console.print(sentence, style="bold", soft_wrap=True)
    console.print(wrote, soft_wrap=True)


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the table and the figure of results.json."""
    nets, what = results["nets"], what_was_measured(results)
    notice = f"{QUICK_NOTICE}\n\n" if results["config"]["quick"] else ""
    text = (
        f"{notice}{markdown_table(HEADER, rows(nets))}\n{what} {NOTE}\n\n**{' '.join(verdict(nets))}**\n\n"
        f"Every point:\n\n{markdown_table(ALL_HEADER, all_rows(nets))}"
    )
    figure = initialisation_figure(nets, results["config"]["steps"], what)
    return {TABLE: text.encode(), "initialisation.png": figure}


def what_was_measured(results: Mapping[str, Any]) -> str:
    """Nets, data, seeds and device in one line."""
    return (
        f"Widths, optimizer and batches of lesson {results['config']['lesson']}, no dropout; "
        f"{data_words(results['data'])}; mean of {count_of(len(results['config']['seeds']), 'seed')}; "
        f"{device_words(results)}."
    )


def rows(nets: Mapping[str, Any]) -> list[list[str]]:
    """Two rows a net: variances of pre-activations and of their gradients, layer by layer from the first."""
    cells = []
    for name, net in nets.items():
        for quantity in ("preactivation", "gradient"):
            by_step = np.mean(net[quantity]["variance"], axis=0)
            ends = [numbers(net["theory"][quantity]), numbers(by_step[0]), numbers(by_step[-1])]
            cells.append([name, WORDS[quantity], *ends])
    return cells


def all_rows(nets: Mapping[str, Any]) -> list[list[str]]:
    """Mean and variance of every quantity at every step, a row each."""
    return [
        [name, f"{kind} of {WORDS[quantity]}", *map(numbers, np.mean(net[quantity][kind], axis=0))]
        for name, net in nets.items()
        for quantity in WORDS
        for kind in ("mean", "variance")
    ]


def predictions(theory: Theory, last_gradients: Sequence[float]) -> dict[str, list[float]]:
    """Variances of all layers at the start; those of gradients given the last layer's, of each run."""
    ratios = theory.gradient_ratio
    last = float(np.mean(last_gradients))
    gradient = [last * float(np.prod(ratios[layer:])) for layer in range(len(ratios) + 1)]
    return {"preactivation": theory.preactivation, "gradient": gradient}


def numbers(values: Sequence[float]) -> str:
    """`0.12, 3.4e-05, 1.1`: two digits each."""
    return ", ".join(f"{value:.2g}" for value in values)


def verdict(nets: Mapping[str, Any]) -> list[str]:
    """By what the variance is multiplied from the first hidden layer to the second, measured and in theory."""
    sentences = []
    for name in ("relu, he", "relu, pytorch", "sigmoid, he", "sigmoid, pytorch"):
        measured = np.mean(nets[name]["preactivation"]["variance"], axis=0)[0]
        predicted = nets[name]["theory"]["preactivation"]
        sentences.append(
            f"{name}: from fc1 to fc2 the variance is multiplied by {measured[1] / measured[0]:.2f} "
            f"(theory {predicted[1] / predicted[0]:.2f})."
        )
    he, default = (
        np.sqrt(np.mean(nets[f"relu, batch norm, {kind}"]["kernel_gradient"]["variance"], axis=0)[0, 0] / scale)
        for kind, scale in (("he", KERNEL_SCALE["he"]), ("pytorch", KERNEL_SCALE["pytorch"]))
    )
    sentences.append(
        f"Under batch norm the first gradient of He's fc1, relative to the kernel's own size, is {he / default:.2f} "
        f"times the default's (theory {(KERNEL_SCALE['pytorch'] / KERNEL_SCALE['he']) ** 0.5:.2f})."
    )
    return sentences


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
