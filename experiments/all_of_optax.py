r"""Does every optimizer and every schedule of optax train, and what accuracy does it reach in one epoch?

    python experiments/all_of_optax.py --data FOLDER --out DIR

trains lesson `he` for one epoch with each optimizer of `optax` and `optax.contrib`, at optax's default learning rate
or, if it has none, at the one of 1, 0.1, 0.01, 0.001 and 0.0001 with the lowest training loss over the first 200 steps.
All else is optax's default. Schedules are tried on adam with a peak of 0.003. There is only one seed: this shows what
works; optimizers.py compares. Written to DIR: `runs.jsonl`, `results.json`, `README.md`. After an interruption,
`--resume` continues.

Answer: nearly all do. 47 of 49 optimizers work, to test accuracies from 78.41 % (rprop) to 96.81 % (contrib.cocob).
Not: contrib.dowg, contrib.dpsgd. 12 of 14 schedules work, to test accuracies from 96.31 % (constant) to 96.95 %
(linear). Not: join_schedules, sgdr. Recorded in experiments/results/all_of_optax by

    python experiments/all_of_optax.py --data data/mnist --out experiments/results/all_of_optax
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnist_jax.cli.arguments import DataArguments, JaxArguments, OutArguments, SplitOption, parsed
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.study import begin_study, finish
from mnist_jax.cli.terminal import make_console, table
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS
from mnist_jax.optimizers import OPTIMIZERS, Optimizer, is_number, optimizer, schedule, schedule_names
from mnist_jax.optimizers.factories import refused_optimizer_names
from mnist_jax.optimizers.parameters import Value, parameters
from mnist_jax.optimizers.schedules import refused_schedule_names
from mnist_jax.runs.devices import on_device
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import check_runs, train_runs
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.runs.records import Run, RunRecord
from mnist_jax.studies.search import AT_CHANCE
from mnist_jax.views.tensorboard import Point, epoch_points
from mnist_jax.views.words import count_of, markdown_table, what_was_run

LESSON = "he"
RATES = (1.0, 0.1, 0.01, 0.001, 0.0001)
TRIED_ON = 6_400  # examples: 200 batches
SCHEDULED = ("adam", 0.003)

# Numbers that schedules are given, besides optax's defaults and ours.
NUMBERS: Mapping[str, Mapping[str, Value]] = {
    "exponential_decay": {"decay_rate": 0.1},
    "piecewise_constant": {"at_0.6_fraction": 0.1, "at_0.9_fraction": 0.1},
    "piecewise_interpolate": {"interpolate_type": "cosine", "at_1_fraction": 0.0},
    "polynomial": {"power": 2.0},
    "warmup_constant": {"warmup_fraction": 0.05},
    "warmup_cosine_decay": {"warmup_fraction": 0.05},
    "warmup_exponential_decay": {"decay_rate": 0.1, "warmup_fraction": 0.05},
}

HEADERS = {
    "optimizer": ["optimizer", "learning rate", "works", "test accuracy"],
    "schedule": ["schedule", "works", "test accuracy"],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train for an epoch with every optimizer and schedule of optax."""

    split: SplitOption = "notebooks"
    digits: DataArguments = DataArguments()
    keeping: OutArguments = OutArguments()
    jax: JaxArguments = JaxArguments()


def names() -> dict[str, list[str]]:
    """Names of all of optax's optimizers and schedules, refused ones last."""
    return {
        "optimizer": [*OPTIMIZERS, *refused_optimizer_names()],
        "schedule": [*schedule_names(), *refused_schedule_names()],
    }


def run(arguments: Arguments) -> None:
    """Train with each, and write the results."""
    start_jax(arguments.jax)
    data = arguments.digits.load(arguments.split)
    lesson = LESSONS[LESSON]
    check_runs(lesson, data, [Run(0)], epochs=1)
    described = describe_run(
        "all_of_optax",
        data,
        {LESSON: lesson},
        command=command_line("python experiments/all_of_optax.py"),
        seeds=[0],
        epochs=1,
        rates=list(RATES),
        tried_on=TRIED_ON,
        schedules_of=str(optimizer(*SCHEDULED)),
    )
    console, placed = make_console(), on_device(data)
    parts = [{"kind": kind, "name": name} for kind, found in names().items() for name in found]

    def measured(kind: str, name: str) -> dict[str, Any]:
        try:
            return with_optimizer(name, placed) if kind == "optimizer" else with_schedule(name, placed)
        except UserError as error:
            return {"refused": str(error)}

    def points(found: Mapping[str, Any]) -> Iterable[Point]:
        return () if "refused" in found else epoch_points(RunRecord.from_json(found).epochs(Run(0)), data)

    with begin_study(described, data, arguments.keeping, console) as study:
        results = {**study.journal.header, "found": study.measure(parts, measured, points)}
        wrote = finish(study.folder, results, report(results))
    for kind, header in HEADERS.items():
        console.print(table(what_was_run(results), header, rows(results, kind)))
    for sentence in [*verdict(results), wrote]:
        console.print(sentence, soft_wrap=True)


def with_optimizer(name: str, data: Dataset) -> dict[str, Any]:
    """Train an epoch at optax's default learning rate or, if there is none, the best of `RATES`.

    In the latter case `tried` holds every rate with its loss.
    """
    chosen = optimizer(name, 1.0)
    rate = parameters(OPTIMIZERS[name])["learning_rate"].default
    losses = {} if is_number(rate) else first_losses(chosen, data)
    rate = min(losses, key=losses.__getitem__) if losses else rate
    tried = [[rate, loss if math.isfinite(loss) else None] for rate, loss in losses.items()]
    return {"learning_rate": rate, "tried": tried, **trained(dataclasses.replace(chosen, learning_rate=rate), data)}


def first_losses(chosen: Optimizer, data: Dataset) -> dict[float, float]:
    """Each rate's mean training loss over the first examples, in nats; infinite where it is not finite."""
    short = dataclasses.replace(data, epoch_length=min(TRIED_ON, data.epoch_length))
    runs = [Run(0, (("learning_rate", rate),)) for rate in RATES]
    epochs = train_runs(dataclasses.replace(LESSONS[LESSON], optimizer=chosen), short, runs, epochs=1)
    losses = (epoch.train_loss for epoch in epochs)
    return {rate: loss if math.isfinite(loss) else math.inf for rate, loss in zip(RATES, losses, strict=True)}


def with_schedule(name: str, data: Dataset) -> dict[str, Any]:
    """Train an epoch of `SCHEDULED` with the schedule."""
    chosen = schedule(name, **NUMBERS.get(name, {}))
    return {"schedule": str(chosen), **trained(optimizer(*SCHEDULED, schedule=chosen), data)}


def trained(chosen: Optimizer, data: Dataset) -> dict[str, Any]:
    """Train the lesson for one epoch; its record, as `mnist-jax train` writes it."""
    lesson = dataclasses.replace(LESSONS[LESSON], optimizer=chosen)
    return RunRecord.of_epochs(list(train_runs(lesson, data, [Run(0)], epochs=1))).to_json()


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the tables of results.json."""
    tables = [markdown_table(header, rows(results, kind)) for kind, header in HEADERS.items()]
    config = results["config"]
    rule = (
        f"Learning rate: optax's default (*), or the one of {', '.join(f'{rate:g}' for rate in config['rates'])} with "
        f"the lowest training loss over the first {config['tried_on']:,} examples; all else as in optax. Schedules: of "
        f"{config['schedules_of']}."
    )
    what = f"Lesson {LESSON}; {what_was_run(results)}. {rule}"
    return {TABLE: "\n".join([*tables, f"{what}\n", f"**{' '.join(verdict(results))}**\n"]).encode()}


def rows(results: Mapping[str, Any], kind: str) -> list[list[str]]:
    """One row per optimizer or schedule."""
    cells = []
    for entry in of_kind(results, kind):
        said = [entry.get("schedule", entry["name"])]
        if kind == "optimizer":
            said.append("" if "refused" in entry else f"{entry['learning_rate']:g}{'' if entry['tried'] else '*'}")
        cells.append([*said, outcome(results, entry), "" if "refused" in entry else _percent(results, entry)])
    return cells


def of_kind(results: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """The entries of optimizers, or of schedules."""
    return [entry for entry in results["found"] if entry["kind"] == kind]


def outcome(results: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Whether it works, or why not."""
    if "refused" in entry:
        return f"no: {entry['refused'].partition(';')[0]}"  # without the list of valid choices
    if entry["diverged"]:
        return "diverged"
    return "yes" if 100 * entry["test_correct"][-1] > AT_CHANCE * results["data"]["test"] else "at chance"


def _percent(results: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    return f"{100 * entry['test_correct'][-1] / results['data']['test']:.2f} %"


def verdict(results: Mapping[str, Any]) -> list[str]:
    """How many work, the worst and best accuracies of these, and what does not work."""
    sentences = []
    for kind in HEADERS:
        found = of_kind(results, kind)
        works = [entry for entry in found if outcome(results, entry) == "yes"]
        sentences.append(f"{len(works)} of {count_of(len(found), kind)} work{_range(results, works)}.")
        if others := [entry["name"] for entry in found if entry not in works]:
            sentences.append(f"Not: {', '.join(others)}.")
    return sentences


def _range(results: Mapping[str, Any], works: Sequence[Mapping[str, Any]]) -> str:
    if not works:
        return ""
    by_accuracy = sorted(works, key=operator.itemgetter("test_correct"))
    said = [f"{_percent(results, end)} ({end['name']})" for end in (by_accuracy[0], by_accuracy[-1])]
    return f", to test accuracies from {' to '.join(said)}"


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
