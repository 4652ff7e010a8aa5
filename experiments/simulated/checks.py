"""How often the statistics of a comparison are right, in worlds whose truth is known."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from mnist_jax.studies.inference import (
    CONFIDENCE,
    MARGINS,
    POWER,
    Estimate,
    explained_share,
    interval,
    noticeable_difference,
    pairs,
    relation,
    search_luck,
    two_way,
)
from mnist_jax.studies.tuning_curves import tuning_curves
from simulated.worlds import IMAGES, SURFACES, finals_by_component, finals_by_image, scores, settings

SEEDS = 20  # of the final runs
TRIALS = 32
CONFIRMED, CONFIRMATION_SEEDS = 4, 3  # number of best trials that are run again, and of seeds for each
VALIDATION_IMAGES = 5_000
CHANCE = 0.001  # probability that a correct program is on the wrong side of a limit


@dataclasses.dataclass(frozen=True)
class Simulation:
    """An event that is counted over a number of simulated studies.

    Attributes:
      what: description of the event.
      count: number of studies -> in how many of them it happened.
      size: number of studies in the tests.
      share: promised share of studies.
      at_most: whether the promise is at most that share, or at least.
    """

    what: str
    count: Callable[[int], int]
    size: int
    share: float
    at_most: bool = False

    def limit(self, size: int) -> int:
        """The largest count (or the smallest, unless `at_most`) that is compatible with the promise, up to `CHANCE`."""
        return int(stats.binom.ppf(1 - CHANCE if self.at_most else CHANCE, size, self.share))

    def run(self, size: int) -> dict[str, Any]:
        """Simulate this many studies; the entry for results.json."""
        seen, limit = self.count(size), self.limit(size)
        kept = seen <= limit if self.at_most else seen >= limit
        return {"what": self.what, "size": size, "seen": seen, "limit": limit, "at_most": self.at_most, "kept": kept}


def any_false_claim(right: np.ndarray) -> bool:
    """Whether, in any pair, one of these equal optimizers is claimed to be better."""
    found = pairs({str(place): answers for place, answers in enumerate(right)})
    return any(interval(each, len(found)).excludes_zero for each in found.values())


def false_claims_by_component(size: int, unlike: float = 0.0) -> int:
    """8 equal optimizers with normal answers; accuracies in images of 10,000."""
    generator = np.random.default_rng(0)
    return sum(any_false_claim(finals_by_component(generator, 8, SEEDS, spread=6, unlike=unlike)) for _ in range(size))


def false_claims_by_image(size: int) -> int:
    """8 equal optimizers, whose images are right or wrong."""
    generator = np.random.default_rng(0)
    return sum(any_false_claim(finals_by_image(generator, 8, SEEDS, unlike=0.5, spread=0.1)) for _ in range(size))


def covered_by_image(size: int) -> int:
    """Two equal optimizers: how often the interval contains 0."""
    generator = np.random.default_rng(0)
    studies = (finals_by_image(generator, 2, SEEDS, unlike=0.5, spread=0.1) for _ in range(size))
    return sum(not any_false_claim(right) for right in studies)


def covered_over_nets(size: int) -> int:
    """Two equal optimizers on 3 nets that find the same images hard: how often the mean lead's interval contains 0.

    The nets share the images, so their leads are not independent: `two_way` must be given the mean of the contrasts.
    """
    generator, nets = np.random.default_rng(0), 3
    covered = 0
    for _ in range(size):
        first, second = finals_by_image(generator, 2, nets * SEEDS, unlike=0.5, spread=0.1)
        leads = np.subtract(first, second, dtype=float).reshape(nets, SEEDS, IMAGES)
        covered += not interval(two_way(leads.mean(0))).excludes_zero
    return covered


def noticed_by_image(size: int) -> int:
    """One of two optimizers is better by 0.15 points: how often that is claimed."""
    generator = np.random.default_rng(0)
    return sum(interval(_lead_by_image(generator, 0.0015)).low > 0 for _ in range(size))


def noticed_as_promised(size: int) -> int:
    """One is better by as much as studies of equal optimizers say they would notice: how often that is claimed."""
    generator = np.random.default_rng(0)
    errors = [_lead_by_image(generator, 0.0).standard_error for _ in range(50)]
    lead = noticeable_difference(float(np.mean(np.square(errors)) ** 0.5), SEEDS)
    return sum(interval(_lead_by_image(generator, lead)).low > 0 for _ in range(size))


def _lead_by_image(generator: np.random.Generator, lead: float) -> Estimate:
    right = finals_by_image(generator, 2, SEEDS, unlike=0.25, spread=0.03, lead=lead)
    return two_way(np.subtract(*right, dtype=float))


def covered_searches(size: int) -> int:
    """Two searches, one on a cliff: how often the interval contains the difference in what such searches find."""
    generator = np.random.default_rng(0)
    leads, found = [], []
    for _ in range(size):
        (first, its, luck), (second, other, more) = (_searched(generator, surface) for surface in SURFACES)
        estimate = two_way(its - other)
        found.append(interval(estimate, extra_variance=luck + more))
        leads.append(first - second)
    value = float(np.mean(leads))
    return sum(each.low <= value <= each.high for each in found)


def _searched(generator: np.random.Generator, surface: str) -> tuple[float, np.ndarray, float]:
    """Search; the true accuracy found, final runs `[SEEDS, 2]` (of two equal images), and the variance of its luck."""
    points = settings(generator, TRIALS, dimensions=6)
    validation = scores(generator, surface, points, VALIDATION_IMAGES)
    best = np.argsort(-validation, kind="stable")[:CONFIRMED]
    again = [scores(generator, surface, points[best], VALIDATION_IMAGES) for _ in range(CONFIRMATION_SEEDS)]
    chosen = points[best[[np.argmax(np.sum(again, axis=0))]]]
    finals = scores(generator, surface, np.repeat(chosen, SEEDS, axis=0), IMAGES)
    luck = search_luck(validation.tolist(), scores(generator, surface, points, IMAGES).tolist())
    return float(SURFACES[surface](chosen)[0]), np.stack([finals, finals], axis=1), luck.variance


def bands_that_hold(size: int, *, sobol: bool, ties: bool) -> int:
    """How often both tuning curves lie within their bands at every budget."""
    generator, step = np.random.default_rng(0), 0.005 if ties else 1e-9
    many = np.sort(scores(generator, "cliff", settings(generator, 2**17, 7), VALIDATION_IMAGES, step))
    budgets = np.arange(1, TRIALS + 1)
    median = many[np.ceil(0.5 ** (1 / budgets) * len(many)).astype(int) - 1]
    below = (np.arange(len(many) + 1) / len(many)) ** budgets[:, None]
    expected = np.diff(below) @ many
    held = 0
    for _ in range(size):
        points = settings(generator, TRIALS, 7, sobol=sobol)
        found = tuning_curves(scores(generator, "cliff", points, VALIDATION_IMAGES, step).tolist())
        held += all(
            (band.low <= truth).all() and (truth <= band.high).all()
            for band, truth in ((found.median, median), (found.expected, expected))
        )
    return held


def same_at_the_edge(size: int) -> int:
    """How often two optimizers that differ by exactly the margin are claimed to differ by less."""
    generator, margin, error = np.random.default_rng(0), MARGINS["MNIST"], 0.0002
    means = margin + error * generator.standard_normal(size)
    errors = error * (generator.chisquare(SEEDS - 1, size) / (SEEDS - 1)) ** 0.5
    said = (
        relation(interval(Estimate(mean, found, SEEDS - 1, found, 0.0)), margin)
        for mean, found in zip(means.tolist(), errors.tolist(), strict=True)
    )
    return sum("margin" in words for words in said)


def covered_shares(size: int) -> int:
    """How often Fieller's interval contains the share, for leads that a common part moves in opposite directions."""
    generator, chosen, course, spread = np.random.default_rng(0), 30.0, 60.0, 24.0
    covered = 0
    for _ in range(size):
        common, first, second = finals_by_component(generator, 3, SEEDS, spread=spread, unlike=spread / 8)
        found = explained_share(chosen + common + first / 2, course - common + second / 2)
        covered += found is not None and found[0] <= 1 - chosen / course <= found[1]
    return covered


SIMULATIONS: Mapping[str, Simulation] = {
    "false claims, components": Simulation(
        "any false claim among 8 equal optimizers, normal, no image part", false_claims_by_component, 2_000, 0.05, True
    ),
    "false claims, components with an image part": Simulation(
        "any false claim among 8 equal optimizers, normal, with an image part",
        functools.partial(false_claims_by_component, unlike=3),
        2_000,
        0.05,
        True,
    ),
    "false claims, images": Simulation(
        "any false claim among 8 equal optimizers, image by image", false_claims_by_image, 150, 0.05, True
    ),
    "coverage, images": Simulation(
        "the interval of two equal optimizers holds 0, image by image", covered_by_image, 400, CONFIDENCE
    ),
    "coverage, nets": Simulation(
        "the interval of the mean lead over 3 nets of two equal optimizers holds 0, image by image",
        covered_over_nets,
        400,
        CONFIDENCE,
    ),
    "power, images": Simulation("a lead of 0.15 points is noticed, image by image", noticed_by_image, 400, 0.98),
    "power, as promised": Simulation(
        "the lead that a study says it would have noticed is noticed, image by image", noticed_as_promised, 400, POWER
    ),
    "coverage, searches": Simulation(
        "the interval over searches holds the lead of searches, 32 Sobol trials in 6 dimensions",
        covered_searches,
        400,
        CONFIDENCE,
    ),
    **{
        f"bands, {draws} draws{', ties' if ties else ''}": Simulation(
            f"both tuning curves lie in their bands, {draws} draws{', many equal' if ties else ''}",
            functools.partial(bands_that_hold, sobol=draws == "Sobol", ties=ties),
            500,
            CONFIDENCE,
        )
        for draws in ("independent", "Sobol")
        for ties in (False, True)
    },
    "equivalence at the margin": Simulation(
        "two optimizers that differ by the margin are said to differ by less", same_at_the_edge, 20_000, 0.025, True
    ),
    "coverage of a share": Simulation(
        "Fieller's interval holds the share of a lead that tuning explains", covered_shares, 4_000, CONFIDENCE
    ),
}
