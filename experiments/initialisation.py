"""What does He initialisation do, and when does it matter?

    python experiments/initialisation.py --data FOLDER --out DIR

measures mean and variance of every layer's pre-activations (outputs of the dense layer, before batch norm) and of the
loss's gradients with respect to them and to the kernels, at the start and after 1, 10, 100 and 1,000 steps, for
PyTorch's default and He, sigmoid and ReLU, with and without batch norm. Dropout is off: it is not the question, and
multiplies every variance after it by 1 / (1 - rate). What theory predicts for the start, and why, is in
mnist_jax/studies/initialisation.py. Written to DIR: `results.json`, `README.md`, `initialisation.png`.

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
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mnist_jax.cli.arguments import DataArguments, JaxArguments, LessonId, OutArguments, parsed
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.study import begin_study, finish
from mnist_jax.cli.terminal import make_console, table
from mnist_jax.lessons import lesson_by_id
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import check_runs
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.runs.records import runs_of_seeds
from mnist_jax.studies.initialisation import KERNEL_SCALE, MEASURED_ON, STEPS, follow, nets, summary
from mnist_jax.views.figures import initialisation_figure
from mnist_jax.views.tensorboard import Point
from mnist_jax.views.words import count_of, data_words, device_words, markdown_table

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
      lesson: lesson whose widths, optimizer and batch size are used.
      seeds: number of runs of each net, over which means are taken.
      quick: one seed; not the study.
    """

    lesson: LessonId = "he"
    seeds: int = 5
    quick: bool = False
    digits: DataArguments = DataArguments()
    keeping: OutArguments = OutArguments()
    jax: JaxArguments = JaxArguments()


def points(found: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> list[Point]:
    """Points for TensorBoard from what `follow` returns."""
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


def run(arguments: Arguments) -> None:
    """Measure, compare with theory, and write the results."""
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
    examples = jax.device_put(data.train)
    parts = [{"net": name, "seed": seed} for name in chosen for seed in seeds]

    def measured(net: str, seed: int) -> dict[str, Any]:
        return {"run": follow(chosen[net], examples, seed, STEPS)}

    with begin_study(described, data, arguments.keeping, console) as study:
        found = study.measure(parts, measured, lambda part: points(part["run"]))
        runs = {name: [entry["run"] for entry in found if entry["net"] == name] for name in chosen}
        compared = {name: summary(lesson, runs[name], data.train) for name, lesson in chosen.items()}
        results = {**study.journal.header, "nets": compared}
        wrote = finish(study.folder, results, report(results))
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
    """Two rows per net: variances of pre-activations and of their gradients, layer by layer from the first."""
    cells = []
    for name, net in nets.items():
        for quantity in ("preactivation", "gradient"):
            by_step = np.mean(net[quantity]["variance"], axis=0)
            ends = [numbers(net["theory"][quantity]), numbers(by_step[0]), numbers(by_step[-1])]
            cells.append([name, WORDS[quantity], *ends])
    return cells


def all_rows(nets: Mapping[str, Any]) -> list[list[str]]:
    """Mean and variance of every quantity at every step, one row each."""
    return [
        [name, f"{kind} of {WORDS[quantity]}", *map(numbers, np.mean(net[quantity][kind], axis=0))]
        for name, net in nets.items()
        for quantity in WORDS
        for kind in ("mean", "variance")
    ]


def numbers(values: Sequence[float]) -> str:
    """`0.12, 3.4e-05, 1.1`: two significant digits each."""
    return ", ".join(f"{value:.2g}" for value in values)


def verdict(nets: Mapping[str, Any]) -> list[str]:
    """Factors of the variance from fc1 to fc2, and of the gradient under batch norm, measured and in theory."""
    sentences = []
    for name in ("relu, he", "relu, pytorch", "sigmoid, he", "sigmoid, pytorch"):
        measured = np.mean(nets[name]["preactivation"]["variance"], axis=0)[0]
        predicted = nets[name]["theory"]["preactivation"]
        sentences.append(
            f"{name}: from fc1 to fc2 the variance is multiplied by {measured[1] / measured[0]:.2f} "
            f"(theory {predicted[1] / predicted[0]:.2f})."
        )
    default, he = (
        np.sqrt(np.mean(nets[f"relu, batch norm, {kind}"]["kernel_gradient"]["variance"], axis=0)[0, 0] / scale)
        for kind, scale in KERNEL_SCALE.items()
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
