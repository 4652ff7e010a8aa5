"""Tables of a comparison of optimizers: rows of words, computed from results.json."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_jax.studies.findings import Measured, Pair, accuracy, course_runs, crowded_edges
from mnist_jax.studies.inference import StepsTo, steps_difference, steps_interval
from mnist_jax.studies.search import (
    AT_CHANCE,
    GOOD_WITHIN,
    TARGETS,
    Saving,
    at_chance,
    halving_savings,
    score,
    steps_to,
)
from mnist_jax.studies.stats import Interval
from mnist_jax.views.intervals import detectable, numbers, share_words
from mnist_jax.views.verdicts import margin, setting_words
from mnist_jax.views.words import count_of

PAIR_HEADER = [
    "net", "pair", "C: the course's settings", "S: chosen settings", "B: what searches find",
    "detectable difference (S)", "SE of S from seeds", "SE from images", "S on exactly these test images",
    "tuning explains",
]  # fmt: skip
FINAL_HEADER = [
    "net", "optimizer", "setting", "test accuracy (%)", "SE from seeds", "SE from images",
    "on exactly these test images (%)", "collapsed",
]  # fmt: skip
STEPS_HEADER = ["net", "optimizer", *(f"steps to {target} %" for target in TARGETS)]
SEARCH_HEADER = ["net", "optimizer", "best trial", "chosen trial", "good learning rates", "collapsed", "crowded ends"]
_COLLAPSED = f"diverged, or ended with at most {AT_CHANCE} % of the images right, guessing being 10 %"
PAIR_NOTE = (
    "First minus second, in points of test accuracy, with the interval at its family's level. Detectable: the true "
    "difference that 9 of 10 studies would have shown, rounded upwards. SE: the two parts of the standard error. On "
    "exactly these test images: over seeds alone, unadjusted. Tuning explains: the share of the course's lead that is "
    "gone with the chosen settings, rounded outwards, where that lead is shown."
)
FINAL_NOTE = (
    "Test accuracy: mean and unadjusted 95 % interval over new seeds and new test images; SE are the two parts of its "
    "standard error, in points. On exactly these test images: interval over seeds alone. Collapsed: final runs that "
    f"{_COLLAPSED}."
)
STEPS_NOTE = (
    "Steps: the first test with so many images right, every {every:,} steps and at the end of each epoch; median over "
    "seeds and its exact interval of at least 95 %. Differences: mean, {limit:,} steps counting as never, with its "
    "unadjusted 95 % interval over seeds. All on these test images."
)
SEARCH_NOTE = (
    "Best trial, chosen trial: validation accuracy of its own run; in brackets the mean of the runs that confirmed it. "
    f"Good learning rates: of drawn trials within {GOOD_WITHIN / 10:g} points of the best one, and how many these are. "
    f"Collapsed: trials that {_COLLAPSED}. Crowded ends: where the best trials lie at an end of the space, or the "
    "chosen one does."
)
SAVINGS_NOTE = (
    "Keeping the best half or quarter of the trials after that many epochs: share of all epochs saved; where the "
    "chosen trial would have been stopped; and by how many points the best trial's validation accuracy is above that "
    "of "
    "the best one kept."
)
_KEPT = {2: "half", 4: "quarter"}
CURVES_NOTE = (
    "Tuning curves (tuning_curves.png) are of settings drawn independently from the space, one seed each, without "
    "trial 0. Their bands (Lourie et al. 2023, arXiv:2311.09480; opda) are simultaneous over all budgets, exact for "
    "independent draws and, by simulation, conservative for these quasi-random ones. Beyond the budget where a band "
    "is marked, or at every budget where none is, so few trials set no upper limit."
)


def pair_rows(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any]) -> list[list[str]]:
    """One row per net and pair, sorted by name; differences are first minus second."""
    return [
        [net, *_pair_words(pair, margin(results))]
        for net, of_net in found.items()
        for pair in sorted(of_net, key=lambda pair: sorted((pair.first, pair.second)))
    ]


def _pair_words(pair: Pair, limit: float | None) -> list[str]:
    first, second = sorted((pair.first, pair.second))

    def words(gap: Interval | None, limit: float | None = limit) -> str:
        return numbers(gap if first == pair.first else gap.times(-1), limit, "+") if gap else "—"

    return [
        f"{first} minus {second}",
        words(pair.course),
        words(pair.settings.points),
        words(pair.searches),
        detectable(pair.noticed),
        f"{pair.settings.seeds_part:.3f}",
        f"{pair.settings.images_part:.3f}",
        words(pair.settings.on_these_images, None),
        share_words(pair.share) if pair.share else "—",
    ]


def final_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row per net, optimizer and setting of final runs, sorted by name."""
    rows = []
    for net, label, entry in entries_by_name(results):
        rows.append([net, label, _chosen_words(entry), *_measured_words(entry["final"], results)])
        course = course_runs(label, entry)
        if course is not None and course is not entry["final"]:
            setting = f"the course's: {setting_words(entry['trials'][0]['settings'])}"
            rows.append([net, label, setting, *_measured_words(course, results)])
    return rows


def entries_by_name(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Net, label and entry of every optimizer, sorted by label within a net."""
    for net, entries in results["nets"].items():
        for label in sorted(entries):
            yield net, label, entries[label]


def _chosen_words(entry: Mapping[str, Any]) -> str:
    chosen = entry["trials"][entry["chosen"]]
    return f"trial {chosen['number']}: {setting_words(chosen['settings'])}"


def _measured_words(runs: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    found: Measured = accuracy(runs, results)
    ends = [run[-1] for run in runs["test_correct"]]
    return [
        numbers(found.points),
        f"{found.seeds_part:.3f}",
        f"{found.images_part:.3f}",
        numbers(found.on_these_images),
        collapsed_words(ends, runs["diverged"], results["data"]["test"]),
    ]


def collapsed_words(ends: Sequence[int], diverged: Sequence[bool], images: int) -> str:
    """`3 of 33 (2 diverged)`: the number of runs that learned nothing, or lost what they had learned."""
    lost = sum(diverged)
    of_these = f" ({lost} diverged)" if lost else ""
    return f"{lost + at_chance(ends, diverged, images)} of {len(ends)}{of_these}"


def steps_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row per net and optimizer at its chosen setting, and one for the difference if a net has two optimizers."""
    rows = []
    for net, entries in results["nets"].items():
        steps = {label: steps_to_targets(entry["final"], results) for label, entry in entries.items()}
        rows += [
            [net, label, *(steps_words(steps_interval(found)) for found in steps[label])] for label in sorted(steps)
        ]
        if len(steps) == 2:
            second, first = steps
            both = zip(steps[first], steps[second], strict=True)
            rows.append(
                [net, f"{second} minus {first}", *(difference_of_steps(*pair, first, results) for pair in both)]
            )
    return rows


def steps_to_targets(runs: Mapping[str, Any], results: Mapping[str, Any]) -> list[list[int | None]]:
    """Steps of each run to each of `TARGETS`, None for never."""
    config, images = results["config"], results["data"]["test"]
    return [
        [
            steps_to(-(-target * images // 100), tests, ends, config["test_every"], config["steps_per_epoch"])
            for tests, ends in zip(runs["tests"], runs["test_correct"], strict=True)
        ]
        for target in TARGETS
    ]


def steps_words(found: StepsTo) -> str:
    """`1,000 [750, 1,250]`, with the number of runs that reached the target if some did not."""
    missing = f"reached by {found.reached} of {count_of(found.runs, 'run')}"
    if math.isinf(found.median):
        return missing
    ends = f" [{', '.join(map(_step, found.interval))}]" if found.interval else ""
    return f"{_step(found.median)}{ends}{'' if found.reached == found.runs else f', {missing}'}"


def _step(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:,.0f}"


def difference_of_steps(
    first: Sequence[int | None], second: Sequence[int | None], name: str, results: Mapping[str, Any]
) -> str:
    """By how many steps the first optimizer, called `name`, reaches a target before the second, in words."""
    config = results["config"]
    limit = config["epochs"] * config["steps_per_epoch"]
    found = steps_difference(first, second, limit, config["test_every"], config["confidence"])
    if found is None:
        return "—"
    if found.interval is None:
        return f"{found.mean:+,.0f}, the same for all seeds"
    shown = "differs" if found.differs else "not shown to differ"
    ends = f"[{found.interval.low:+,.0f}, {found.interval.high:+,.0f}]"
    ties = count_of(found.ties, "tie")
    return f"{found.mean:+,.0f} {ends}, {shown}; {name} first in {found.sooner} of {len(first)} seeds, {ties}"


def search_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row per net and optimizer: what its search found, on validation images."""
    images, rows, crowded = results["data"]["validation"], [], crowded_edges(results)
    for net, label, entry in entries_by_name(results):
        _, *drawn = entry["trials"]
        scores = [score(trial) for trial in entry["trials"]]
        good = [trial for trial in drawn if 1000 * (max(map(score, drawn)) - score(trial)) <= GOOD_WITHIN * images]
        rates = [trial["settings"]["learning_rate"] for trial in good]
        ends = [trial["validation_correct"][-1] for trial in entry["trials"]]
        lost = [trial["diverged"] for trial in entry["trials"]]
        rows.append(
            [
                net,
                label,
                f"{max(scores) / images:.2%}",
                f"{entry['chosen']}: {scores[entry['chosen']] / images:.2%} ({confirmed(entry, images):.2%})",
                f"{min(rates):.3g} to {max(rates):.3g} ({len(good)} of {len(drawn)} trials)",
                collapsed_words(ends, lost, images),
                ", ".join(f"{edge.range} {edge.end}" for edge in crowded[net, label]) or "none",
            ]
        )
    return rows


def confirmed(entry: Mapping[str, Any], images: int) -> float:
    """Mean validation accuracy of the chosen trial's runs with fresh seeds."""
    (counts,) = (found["validation_correct"] for found in entry["confirmation"] if found["number"] == entry["chosen"])
    return float(sum(counts) / len(counts) / images)


def savings_table(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one row per net and optimizer, one column per rule of early stopping."""
    found = {
        (net, label): {(each.kept, each.after): each for each in halving_savings(entry)}
        for net, label, entry in entries_by_name(results)
    }
    rules = sorted({rule for savings in found.values() for rule in savings})
    header = [f"best {_KEPT[kept]} after {count_of(after, 'epoch')}" for kept, after in rules]
    images = results["data"]["validation"]
    rows = [
        [*names, *(_saving_words(savings[rule], images) if rule in savings else "—" for rule in rules)]
        for names, savings in found.items()
    ]
    return ["net", "optimizer", *header], rows


def _saving_words(found: Saving, images: int) -> str:
    stopped = "" if found.keeps_chosen else ", chosen trial stopped"
    lost = f", {100 * found.lost / images:.2f} points lost" if found.lost else ""
    return f"{100 * found.steps:.0f} %{stopped}{lost}"
