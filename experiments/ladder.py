"""What does each lesson's change gain?

    python experiments/ladder.py --split notebooks --seeds 5 --data FOLDER --out DIR

trains the six lessons and writes to DIR: `results.json` (every seed, every epoch), `README.md`, `ladder.png` (accuracy
and loss) and `gains.png` (each lesson minus the one before).

Answer: test accuracy and, over the lesson before, gain in points, means of 5 seeds: mlp 90.31 %, dropout 86.66 %
(-3.65), relu 97.38 % (+10.72), batch_norm 98.04 % (+0.66), he 97.23 % (-0.81), adam 97.98 % (+0.75). Recorded in
experiments/results/ladder by

    python experiments/ladder.py --data data/mnist --split notebooks --seeds 5 --out experiments/results/ladder
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from mnist_jax.cli.arguments import DataArguments, KeepingArguments, LessonId, SharedJaxArguments, SplitOption, parsed
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.study import finish, run_lessons
from mnist_jax.cli.terminal import make_console, runnable, table
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.views.figures import gains_figure, ladder_figure
from mnist_jax.views.ladder import header, notes, rows, surprises
from mnist_jax.views.words import markdown_table, what_was_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train the six lessons and show what each one's change does to test accuracy.

    Attributes:
      lessons: lessons to train, in the course's order.
      seeds: number of runs of each lesson; run k of every lesson has seed k, so all share its order of examples.
      epochs: number of epochs of each run.
    """

    lessons: tuple[LessonId, ...] = tuple(LESSONS)
    seeds: int = 1
    epochs: int = EPOCHS
    split: SplitOption = "slides"
    digits: DataArguments = DataArguments()
    keeping: KeepingArguments = KeepingArguments()
    jax: SharedJaxArguments = SharedJaxArguments()


def run(arguments: Arguments) -> None:
    """Train, print the table, write the files."""
    chosen = {lesson_id: lesson for lesson_id, lesson in LESSONS.items() if lesson_id in arguments.lessons}
    if not chosen:
        raise UserError(f"At least one lesson is needed: {', '.join(LESSONS)}.")
    start_jax(arguments.jax)
    data = arguments.digits.load(arguments.split)
    console = make_console()
    folder, results = run_lessons(
        "ladder",
        chosen,
        data,
        arguments.keeping,
        console,
        seeds=range(arguments.seeds),
        epochs=arguments.epochs,
    )
    wrote = finish(folder, results, report(results))
    console.print(table(what_was_run(results), header(results), rows(results)))
    for sentence in [*notes(results), *surprises(results)]:
        console.print(sentence, soft_wrap=True)
    console.print(wrote, soft_wrap=True)
    report_command, demo_command = (
        runnable(f"mnist-jax {command} {shlex.quote(str(folder))}") for command in ("report", "demo")
    )
    console.print(
        f"`{report_command}` writes a report on it; `{demo_command}` shows how its nets classify digits that you draw",
        soft_wrap=True,
    )


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the table and the figures of results.json."""
    what = what_was_run(results)
    sentences = "".join(f"\n{sentence}\n" for sentence in surprises(results))
    text = f"{markdown_table(header(results), rows(results))}\n{what}. {' '.join(notes(results))}\n{sentences}"
    gains = gains_figure(results, what)
    return {
        TABLE: text.encode(),
        "ladder.png": ladder_figure(results, what),
        **({} if gains is None else {"gains.png": gains}),
    }


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
