"""Tables of a comparison of optimizers."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_jax.studies.stats import mean_interval, median_interval
from mnist_jax.studies.tuning import AT_CHANCE, GOOD_WITHIN, TARGETS, Budget, at_chance, chosen, median_steps
from mnist_jax.views.words import count_of, data_words, device_words, markdown_table

QUICK_NOTICE = "QUICK: short epochs and few runs, to see how it works. This is not the study; do not quote it."
TUNING_HEADER = [
    "optimizer", "best learning rate", "validation accuracy", "good learning rates", "decades", "diverged", "at chance",
]  # fmt: skip
FINAL_HEADER = [
    "optimizer", "learning rate", "test accuracy", "test loss",
    *(f"steps (seconds) to {target} %" for target in TARGETS),
]  # fmt: skip
NOTE = (
    f"Good learning rates: those around the best whose mean validation accuracy is within {GOOD_WITHIN / 10:g} points "
    f"of its; decades: how wide that is. At chance: runs that ended finite with at most {AT_CHANCE} % of the "
    "validation images right (final runs: of the test images), guessing being 10 %. Test accuracy and loss: mean and "
    "95 % confidence interval over seeds, on these test images. Steps: median over seeds and, for 6 seeds or more, its "
    f"exact confidence interval of at least 95 %, found by testing every {Budget.test_every} steps; seconds: as many "
    "of a run by itself."
)


def tuning_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row per contestant."""
    rows, images = [], results["data"]["validation"]
    for label, found in results["tuning"].items():
        rates, (low, high) = found["learning_rates"], found["good_learning_rates"]
        at_least = "at least " if low == rates[0] or high == rates[-1] else ""
        correct, seeds = chosen(found)
        lost, ends = (list(itertools.chain(*found[name])) for name in ("diverged", "validation_correct"))
        rows.append(
            [
                label,
                f"{found['learning_rate']:g}{' (edge of the grid)' if found['at_edge'] else ''}",
                f"{correct / (seeds * images):.2%}",
                f"{low:g} to {high:g}",
                f"{at_least}{math.log10(high / low):.1f}",
                f"{sum(lost)} of {len(lost)} runs",
                f"{at_chance(ends, lost, images)} of {len(lost)} runs",
            ]
        )
    return rows


def final_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row per contestant that was chosen."""
    rows, images = [], results["data"]["test"]
    for found in results["final"].values():
        seconds = found["seconds_per_epoch"] / results["config"]["steps_per_epoch"]
        ends = [run[-1] for run in found["test_correct"]]
        lost = {"diverged": sum(found["diverged"]), "at chance": at_chance(ends, found["diverged"], images)}
        words = [f"{count} {what}" for what, count in lost.items() if count]
        rows.append(
            [
                found["contestant"],
                f"{found['learning_rate']:g}",
                accuracy_words(ends, images) + (f" ({', '.join(words)})" if words else ""),
                loss_words([run[-1] for run in found["test_loss"]]),
                *(_steps_words(found["steps_to"][str(target)], seconds) for target in TARGETS),
            ]
        )
    return rows


def accuracy_words(counts: Sequence[int], images: int) -> str:
    """Mean and interval of counts of the `images`, `98.31 % [98.25, 98.37]`."""
    return "{:.2f} % [{:.2f}, {:.2f}]".format(*mean_interval(counts, grid=1).times(100 / images))


def loss_words(losses: Sequence[float | None]) -> str:
    """Mean and interval, `0.0561 [0.0550, 0.0572]`; "not finite" where one is None."""
    known = [loss for loss in losses if loss is not None]
    return "{:.4f} [{:.4f}, {:.4f}]".format(*mean_interval(known)) if len(known) == len(losses) else "not finite"


def _steps_words(steps: Sequence[int | None], seconds_per_step: float) -> str:
    median, missing = median_steps(steps), steps.count(None)
    never = f"not reached by {missing} of {len(steps)} runs"
    if median == math.inf:
        return never
    ends = median_interval([math.inf if step is None else step for step in steps])
    interval = f" [{', '.join('never' if end == math.inf else f'{end:,.0f}' for end in ends)}]" if ends else ""
    return f"{median:,.0f}{interval} ({median * seconds_per_step:.1f} s){f', {never}' if missing else ''}"


def comparison_table(results: Mapping[str, Any], sentences: Sequence[str]) -> bytes:
    """The tables of a comparison's results.json and its verdict, as Markdown."""
    parts = [
        *([f"**{QUICK_NOTICE}**"] if results["config"]["quick"] else []),
        f"{markdown_table(FINAL_HEADER, final_rows(results))}\n{what_was_compared(results)} {NOTE}",
        f"**{' '.join(sentences)}**",
        "Tuning:",
        markdown_table(TUNING_HEADER, tuning_rows(results)).rstrip(),
        *results.get("corrections", []),  # of recorded results, what was wrong when they were first written
    ]
    return ("\n\n".join(parts) + "\n").encode()


def what_was_compared(results: Mapping[str, Any]) -> str:
    """Net, data, budget and device in one line."""
    config = results["config"]
    ((lesson_id, _),) = config["lessons"].items()
    epoch = "" if not config["quick"] else f" of {results['data']['epoch_length']:,} examples"
    return (
        f"Net of lesson {lesson_id}; {data_words(results['data'])}; {count_of(config['epochs'], 'epoch')}{epoch}; "
        f"each rate tried with {count_of(len(config['tuning_seeds']), 'seed')}, the best with "
        f"{count_of(len(config['final_seeds']), 'fresh seed')}; "
        f"{device_words(results)}."
    )
