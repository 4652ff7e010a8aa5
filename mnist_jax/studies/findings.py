"""The findings of a comparison's results.json, in numbers, for each optimizer and all pairs, net by net.

All are percentage points of test accuracy. Three claims are kept apart:

- C, the course's settings: the optimizers as the course sets them.
- S, these settings: each optimizer at the setting that was chosen for it. Seeds and test images are random.
- B, these searches: what a search of the optimizer's space with this many trials finds. The search is random, too.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_jax.optimizers import Optimizer
from mnist_jax.runs.records import unpack_bits
from mnist_jax.studies.dimensions import Choice, Range
from mnist_jax.studies.inference import (
    Estimate,
    components,
    explained_share,
    interval,
    noticeable_difference,
    search_luck,
    two_way,
)
from mnist_jax.studies.search import rank, score
from mnist_jax.studies.spaces import COURSE, Edge, Space, edges
from mnist_jax.studies.stats import Interval
from mnist_jax.studies.tuning_curves import TuningCurves, tuning_curves


class Measured(NamedTuple):
    """Test accuracy at a setting, or the difference between two.

    Attributes:
      points: mean with its interval over seeds and test images.
      seeds_part, images_part: what each contributes to the standard error.
      on_these_images: mean with its interval over seeds alone, unadjusted.
    """

    points: Interval
    seeds_part: float
    images_part: float
    on_these_images: Interval


class Pair(NamedTuple):
    """Two optimizers on one net; differences are first minus second.

    The intervals of a claim are simultaneous over all pairs of the study; those of claim C use the same level, though
    they may be fewer.

    Attributes:
      first, second: labels.
      course: claim C; None unless the course uses both optimizers.
      settings: claim S.
      searches: claim B.
      noticed: the difference between the settings that 9 of 10 studies would have noticed.
      tuned: C minus S, by how much tuning reduces the lead, unadjusted; None without C.
      share: ends of the interval of the share of C's lead that tuning explains, unadjusted; None if the interval of
        that lead, at the family's level, includes 0, which is stricter than Fieller's interval needs.
    """

    first: str
    second: str
    course: Interval | None
    settings: Measured
    searches: Interval
    noticed: float
    tuned: Interval | None
    share: tuple[float, float] | None


def right(runs: Mapping[str, Any], images: int) -> np.ndarray:
    """Which test images each final run has right: bool `[seeds, images]`."""
    return np.stack([unpack_bits(bits, images) for bits in runs["right"]])


def course_runs(label: str, entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The final runs of the course's setting, which may have been the chosen one; None if the course has none."""
    if label not in COURSE:
        return None
    runs: Mapping[str, Any] = entry["final" if entry["chosen"] == 0 else "course"]
    return runs


def number_of_pairs(results: Mapping[str, Any]) -> int:
    """Number of pairs in the study, over which the intervals of a claim are simultaneous."""
    return sum(len(entries) * (len(entries) - 1) // 2 for entries in results["nets"].values())


def seeds_and_images(results: Mapping[str, Any]) -> tuple[int, int]:
    """Number of final seeds and of test images."""
    return len(results["config"]["seeds"]["finals"]), results["data"]["test"]


def measured(estimate: Estimate, comparisons: int, confidence: float) -> Measured:
    """An estimate of fractions as percentage points, with its intervals."""
    return Measured(
        interval(estimate, comparisons, confidence=confidence).times(100),
        100 * estimate.seeds_part,
        100 * estimate.images_part,
        interval(estimate.on_these_images, confidence=confidence).times(100),
    )


def accuracy(runs: Mapping[str, Any], results: Mapping[str, Any]) -> Measured:
    """Test accuracy of the final runs of one setting, with an unadjusted interval."""
    found = components(right(runs, results["data"]["test"])[None])
    return measured(found.estimate([1]), 1, results["config"]["confidence"])


def pairs(results: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Net -> all pairs of its optimizers; the first of a pair is the one that was named later."""
    return {net: _pairs(entries, results) for net, entries in results["nets"].items()}


def _pairs(entries: Mapping[str, Any], results: Mapping[str, Any]) -> list[Pair]:
    confidence, comparisons = results["config"]["confidence"], number_of_pairs(results)
    seeds, images = seeds_and_images(results)
    chosen = {label: right(entry["final"], images) for label, entry in entries.items()}
    of_course = {label: course_runs(label, entry) for label, entry in entries.items()}
    course = {label: right(runs, images) for label, runs in of_course.items() if runs is not None}
    luck = {label: search_variance(entry, images) for label, entry in entries.items()}
    names = [(label, "chosen") for label in chosen] + [(label, "course") for label in course]
    found = components(np.stack([*chosen.values(), *course.values()]))

    def simultaneous(estimate: Estimate, extra_variance: float = 0.0) -> Interval:
        return interval(estimate, comparisons, extra_variance, confidence).times(100)

    def pair(first: str, second: str) -> Pair:
        lead = _contrast(names, {(first, "chosen"): 1, (second, "chosen"): -1})
        estimate, extra = found.estimate(lead), luck[first] + luck[second]
        untuned = tuned = share = None
        if first in course and second in course:
            of_course_lead = _contrast(names, {(first, "course"): 1, (second, "course"): -1})
            untuned = simultaneous(found.estimate(of_course_lead))
            change = found.estimate([a - b for a, b in zip(of_course_lead, lead, strict=True)])
            tuned = interval(change, confidence=confidence).times(100)
            if untuned.excludes_zero:
                share = explained_share(_lead(chosen, first, second), _lead(course, first, second), confidence)
        return Pair(
            first,
            second,
            course=untuned,
            settings=measured(estimate, comparisons, confidence),
            searches=simultaneous(estimate, extra),
            noticed=100 * noticeable_difference(estimate.standard_error, seeds, comparisons),
            tuned=tuned,
            share=share,
        )

    return list(itertools.starmap(pair, itertools.combinations(reversed(list(entries)), 2)))


def _lead(runs: Mapping[str, np.ndarray], first: str, second: str) -> np.ndarray:
    return runs[first].astype(float) - runs[second]


def _contrast(names: Sequence[tuple[str, str]], factors: Mapping[tuple[str, str], int]) -> list[int]:
    return [factors.get(name, 0) for name in names]


def search_variance(entry: Mapping[str, Any], images: int) -> float:
    """Variance that repeating the search, with as many trials, adds to the test accuracy, in squared fractions."""
    course, *drawn = entry["trials"]
    tests = [trial["test_correct"][-1] / images for trial in (course, *drawn)]
    return search_luck([rank(trial) for trial in drawn], tests[1:], (rank(course), tests[0])).variance


def mean_over_nets(results: Mapping[str, Any]) -> Interval | None:
    """Claim B for the mean lead over the nets, second optimizer minus first, unadjusted.

    Nets share seeds and test images, so their leads are averaged run by run and image by image; their searches are
    independent. None unless there are several nets with the same two optimizers.
    """
    nets = list(results["nets"].values())
    if len(nets) < 2 or any(list(entries) != list(nets[0]) or len(entries) != 2 for entries in nets):
        return None
    images = results["data"]["test"]
    leads = []
    for entries in nets:
        second, first = (right(entry["final"], images) for entry in entries.values())
        leads.append(first.astype(float) - second)
    luck = sum(search_variance(entry, images) for entries in nets for entry in entries.values())
    estimate = two_way(np.mean(leads, axis=0))
    return interval(estimate, 1, luck / len(nets) ** 2, results["config"]["confidence"]).times(100)


def tuning(results: Mapping[str, Any]) -> dict[str, dict[str, TuningCurves]]:
    """Net -> label -> tuning curves; bands of a net's two optimizers are simultaneous, those of more optimizers not."""
    confidence, images = results["config"]["confidence"], results["data"]["validation"]
    return {
        net: {
            label: tuning_curves(
                [score(trial) / images for trial in entry["trials"][1:]],
                (1 + confidence) / 2 if len(entries) == 2 else confidence,
            )
            for label, entry in entries.items()
        }
        for net, entries in results["nets"].items()
    }


def crowded_edges(results: Mapping[str, Any]) -> dict[tuple[str, str], list[Edge]]:
    """(net, label) -> ends of the space at which the best trials crowd."""
    return {
        (net, label): _edges(_space(results["config"]["spaces"][label]), entry)
        for net, entries in results["nets"].items()
        for label, entry in entries.items()
    }


def _space(values: Mapping[str, Any]) -> Space:
    """The space of a `Space.to_json`, as far as `edges` depends on it."""
    found = values["optimizer"]
    settled = tuple((name, value) for name, value in found["hyperparameters"])
    dimensions = tuple(map(_dimension, values["dimensions"]))
    return Space(Optimizer(found["name"], found["learning_rate"], settled), dimensions)


def _dimension(values: Mapping[str, Any]) -> Range | Choice:
    if "values" in values:
        return Choice(values["name"], tuple(values["values"]))
    return Range(**{**values, "names": tuple(values["names"])})


def _edges(space: Space, entry: Mapping[str, Any]) -> list[Edge]:
    _, *drawn = entry["trials"]
    ordered = sorted(drawn, key=rank, reverse=True)
    chosen = entry["trials"][entry["chosen"]]["settings"] if entry["chosen"] else None
    scores = list(range(len(ordered), 0, -1))
    return edges(space, [trial["settings"] for trial in ordered], scores, chosen)
