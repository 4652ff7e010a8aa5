"""Comparisons of optimizers from the command line."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from rich.console import Console

from mnist_jax.cli.arguments import ComparisonArguments
from mnist_jax.cli.optimizer_words import optimizer_of
from mnist_jax.cli.study import Study, begin_study, finish, how_to_continue
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson, lesson_by_id
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.studies import search, spaces
from mnist_jax.studies.inference import CONFIDENCE, MARGINS, POWER
from mnist_jax.studies.search import Budget, check_comparison, compare
from mnist_jax.studies.spaces import Space, space_of
from mnist_jax.views.comparison import QUICK_NOTICE, report, verdict

PROTOCOL = {
    "study_seed": spaces.STUDY_SEED,
    "warmup_fraction": spaces.WARMUP,
    "first_step_of_those_that_stay_at_0": spaces.FIRST_STEP,
    "edges": spaces.EDGES,
    "confirmed": search.CONFIRMED,
    "targets_in_percent": search.TARGETS,
    "good_within_per_1000": search.GOOD_WITHIN,
    "at_chance_in_percent": search.AT_CHANCE,
    "power": POWER,
}

# Examples per epoch with --quick, instead of 55,000.
_QUICK_EPOCH = 8_000


def run_comparison(
    name: str,
    optimizers: Sequence[str],
    lessons: Sequence[str],
    arguments: ComparisonArguments,
    console: Console,
    *,
    further: Callable[[Study, Mapping[str, Any]], Mapping[str, Any]] = lambda study, results: {},
) -> None:
    """Compare optimizers on lessons' nets, split `slides`, or continue a comparison; write and show the results.

    Args:
      name: name of the study and its script.
      optimizers: optimizers in the user's words.
      lessons: ids of the lessons whose nets are trained.
      arguments: the user's options; with `quick`, epochs are short and a notice is shown.
      console: console to print to.
      further: adds to results.json what `search.compare` does not return.

    Raises:
      UserError: something cannot be run or written, found before training; or a net does not fit in memory.
    """
    trials, final_seeds, epochs = arguments.counts()
    searched = [space_in_words(said) for said in optimizers]
    nets = _nets(lessons)
    budget = Budget.of_counts(trials, final_seeds)
    placement = Placement(side_by_side=arguments.side_by_side)
    data = arguments.digits.load("slides")
    if arguments.quick:
        data = dataclasses.replace(data, epoch_length=min(_QUICK_EPOCH, data.epoch_length))
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    check_comparison(searched, nets, data, budget, epochs, placement)
    described = describe_run(
        name,
        data,
        nets,
        command=command_line(f"python experiments/{name}.py"),
        **_config(searched, nets, data, budget, arguments),
    )
    if "contrib.muon" in described["config"]["spaces"] and jax.default_backend() == "cpu":
        console.print("On a CPU an epoch of contrib.muon takes some 50 times as long as one of sgd.", soft_wrap=True)
    with begin_study(described, data, arguments.keeping, console) as study:
        console.print(f"If interrupted, {how_to_continue(study.folder, described)}", soft_wrap=True)
        runs = len(nets) * sum(budget.runs(space) for space in searched)
        with study.training(arguments.keeping, runs=runs, epochs=epochs, placement=placement, in_bulk=True) as training:
            found = compare(searched, nets, data, budget, epochs, training.train)
        results: dict[str, Any] = {**study.journal.header, "protocol": PROTOCOL, "nets": found}
        results |= further(study, results)
        results["verdict"] = verdict(results)
        wrote = finish(study.folder, results, report(results))
    for sentence in results["verdict"]:
        console.print(sentence, style="bold", soft_wrap=True)
    if arguments.quick:
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    console.print(wrote, soft_wrap=True)


def space_in_words(said: str) -> Space:
    """The search space of an optimizer given in the user's words."""
    name, settings = optimizer_of(said)
    return space_of(name, **settings)


def _config(
    searched: Sequence[Space],
    nets: Mapping[str, Lesson],
    data: Dataset,
    budget: Budget,
    arguments: ComparisonArguments,
) -> dict[str, Any]:
    """The settings that identify a study, besides its data and nets."""
    return {
        "spaces": {space.label: space.to_json() for space in searched},
        "trials": budget.trials,
        "seeds": budget.seeds(),
        "epochs": arguments.counts()[-1],
        "side_by_side": arguments.side_by_side,
        "test_every": budget.test_every,
        "confidence": CONFIDENCE,
        "quick": arguments.quick,
        "steps_per_epoch": data.steps(next(iter(nets.values()))),
        "margin": _margin(data),
    }


def _margin(data: Dataset) -> float | None:
    """The margin of equivalence in percentage points; None where none was fixed."""
    margin = MARGINS.get(data.name)
    return None if margin is None else round(100 * margin, 6)


def _nets(lessons: Sequence[str]) -> dict[str, Lesson]:
    if len(set(lessons)) < max(1, len(lessons)):
        raise UserError(f"Name at least one lesson, each once, not {' '.join(lessons) or 'none'}.")
    return {lesson_id: lesson_by_id(lesson_id) for lesson_id in lessons}
