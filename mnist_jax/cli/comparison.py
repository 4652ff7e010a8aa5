"""Comparisons of optimizers from the command line."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from mnist_jax.cli.arguments import ComparisonArguments
from mnist_jax.cli.study import begin_study, finish, how_to_continue
from mnist_jax.cli.terminal import table
from mnist_jax.lessons import lesson_by_id
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.provenance import command_line, describe_run
from mnist_jax.studies.tuning import Budget, Contestant, check_comparison, compare
from mnist_jax.views.comparison import (
    FINAL_HEADER,
    QUICK_NOTICE,
    TUNING_HEADER,
    final_rows,
    tuning_rows,
    what_was_compared,
)

# What --quick makes of an epoch of 55,000 examples.
_QUICK_EPOCH = 8_000


def run_comparison(
    name: str,
    groups: Mapping[str, Sequence[Contestant]],
    arguments: ComparisonArguments,
    console: Console,
    *,
    derive: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda results: {},
    verdict: Callable[[Mapping[str, Any]], Sequence[str]],
    report: Callable[[Mapping[str, Any]], Mapping[str, bytes]],
) -> None:
    """Compare optimizers on a lesson's net, split `slides`, continuing an interrupted comparison; write and show all.

    Args:
      name: name of the study and its script.
      groups: as in `tuning.compare`.
      arguments: the user's; `quick` shortens the epochs and says so.
      console: console to print to.
      derive: what results.json holds beside what `tuning.compare` returns.
      verdict: sentences on results.json.
      report: file name -> content, of results.json: table and figures.

    Raises:
      UserError: what cannot run or be written, before anything is trained; a net that does not fit in memory.
    """
    lesson, keeping, epochs = lesson_by_id(arguments.lesson), arguments.keeping, arguments.epochs
    placement = Placement(side_by_side=arguments.side_by_side)
    budget = Budget.of_counts(arguments.tuning_seeds, arguments.final_seeds)
    data = arguments.digits.load("slides")
    if arguments.quick:
        data = dataclasses.replace(data, epoch_length=min(_QUICK_EPOCH, data.epoch_length))
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    check_comparison(groups, lesson, data, budget, epochs=epochs, placement=placement)
    described = describe_run(
        name,
        data,
        {arguments.lesson: lesson},
        command=command_line(f"python experiments/{name}.py"),
        contestants=[contestant.to_json() for group in groups.values() for contestant in group],
        **dataclasses.asdict(budget),
        epochs=epochs,
        side_by_side=arguments.side_by_side,
        steps_per_epoch=data.steps(lesson),
        quick=arguments.quick,
    )
    with begin_study(described, data, keeping, console) as study:
        console.print(f"If interrupted, {how_to_continue(study.folder)}", soft_wrap=True)
        runs = budget.runs(groups)
        with study.training(keeping, runs=runs, epochs=epochs, placement=placement, in_bulk=True) as training:
            compared = compare(groups, lesson, data, budget, training.train, study.measure)
        results = {**study.journal.header, **compared}
        results |= derive(results)
        wrote = finish(study.folder, results, report(results))
    console.print(table("Tuning, on validation images", TUNING_HEADER, tuning_rows(results)))
    console.print(table(what_was_compared(results), FINAL_HEADER, final_rows(results)))
    for sentence in verdict(results):
        console.print(sentence, style="bold", soft_wrap=True)
    if arguments.quick:
        console.print(QUICK_NOTICE, style="bold red", soft_wrap=True)
    console.print(wrote, soft_wrap=True)
