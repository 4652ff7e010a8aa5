"""The table of a run's lessons: accuracy, what each change gained, and what the notebooks printed."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_jax.lessons import LESSONS, changes, lesson_of_json, position, what_changed
from mnist_jax.studies import published
from mnist_jax.studies.stats import gain_interval, ladder_gains, paired_difference
from mnist_jax.views.languages import ENGLISH, Words


def notes(results: Mapping[str, Any], words: Words = ENGLISH) -> list[str]:
    """How to read the table."""
    lines = [words["several_seeds" if len(results["config"]["seeds"]) > 1 else "one_seed"]]
    if not _compared(results):
        lines.append(words["no_notebooks"])
    return lines


def _compared(results: Mapping[str, Any]) -> bool:
    config = results["config"]
    changed = any(_changed_fields(results, lesson_id) for lesson_id in results["lessons"])
    return published.comparable(results["data"], config["epochs"]) and not changed


def _changed_fields(results: Mapping[str, Any], lesson_id: str) -> list[str]:
    """Fields in which a run's lesson differs from the course's."""
    trained = results["config"].get("lessons", {})
    return list(changes(lesson_of_json(trained[lesson_id]), LESSONS[lesson_id])) if lesson_id in trained else []


def surprises(results: Mapping[str, Any], words: Words = ENGLISH, figure: str = " (gains.png)") -> list[str]:
    """A sentence for each lesson whose change made the net worse, where several seeds can tell; `figure` shows it."""
    sentences = []
    for (before, after), epochs in ladder_gains(results).items():
        if len(epochs[-1]) < 2 or (last := gain_interval(results, epochs[-1])).high >= 0:
            continue
        ended = len(epochs) == results["config"]["epochs"]
        means = [statistics.mean(epoch) for epoch in epochs]
        worst = min(means)
        sentences.append(
            words["worse"].format(
                before=before,
                after=after,
                mean=last.mean,
                low=last.low,
                high=last.high,
                when=words["at_end" if ended else "after_epoch"].format(epoch=len(epochs)),
                worst=worst,
                epoch=1 + means.index(worst),
                figure=figure,
            )
        )
    return sentences


def header(results: Mapping[str, Any], words: Words = ENGLISH) -> list[str]:
    """The table's columns."""
    columns = ["columns", "notebook_columns"] if _compared(results) else ["columns"]
    return [column for name in columns for column in words[name].split(", ")]


def rows(results: Mapping[str, Any], words: Words = ENGLISH) -> list[list[str]]:
    """The table's cells, one row per lesson."""
    cells = []
    compared = _compared(results)
    finals: dict[int, list[int]] = {}
    images = results["data"]["test"]
    for lesson_id, entry in results["lessons"].items():
        place = position(lesson_id)
        changed = _changed_fields(results, lesson_id)
        correct = finals[place] = [run[-1] for run in entry["test_correct"]]
        percent = [100 * count / images for count in correct]
        mean = statistics.mean(percent)
        spread = f" ± {statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
        diverged = words["diverged"].format(count=sum(entry["diverged"])) if any(entry["diverged"]) else ""
        notebook = []
        if compared:
            printed = 100 * published.accuracies(lesson_id)[results["config"]["epochs"] - 1]
            notebook = [words["printed"].format(percent=printed), f"{mean - printed:+.2f}"]
        cells.append(
            [
                lesson_id,
                "; ".join(
                    [what_changed(lesson_id, words["start"]), *(words["other"].format(name=name) for name in changed)]
                ),
                words["accuracy"].format(mean=mean, spread=spread) + diverged,
                gain(correct, finals[place - 1], images, words) if place - 1 in finals else "",
                *notebook,
            ]
        )
    return cells


def gain(correct: Sequence[int], before: Sequence[int], images: int, words: Words = ENGLISH) -> str:
    """Percentage points over the lesson before, seed by seed, and whether that is different from zero.

    Args:
      correct: for each seed the images right.
      before: those of the lesson before.
      images: number of test images.
      words: of a language.
    """
    if len(correct) == 1:
        return f"{100 * (correct[0] - before[0]) / images:+.2f}"
    difference = paired_difference(correct, before, grid=1).times(100 / images)
    verdict = "" if difference.excludes_zero else words["not_zero"]
    return f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]{verdict}"
