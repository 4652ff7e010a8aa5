"""What a comparison of optimizers says, in sentences: each names its claim, and what it rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_jax.studies.findings import Pair, crowded_edges, mean_over_nets, number_of_pairs, seeds_and_images
from mnist_jax.studies.inference import best_among, relation
from mnist_jax.studies.spaces import Edge, Setting
from mnist_jax.studies.stats import Interval
from mnist_jax.studies.tuning_curves import TuningCurves, budgets_led
from mnist_jax.views.search_spaces import PAGE
from mnist_jax.views.words import count_of

CLAIMS = {
    "C": "with the course's settings",
    "S": "with the chosen settings",
    "B": "with what such searches find",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WITHIN = ", by less than the margin"


def headlines(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any]) -> list[str]:
    """One sentence per net, and one on all of them together."""
    sentences = [
        f"{net}: {_headline(of_net[0], results) if len(of_net) == 1 else _headline_of_all(of_net, results)}"
        for net, of_net in found.items()
    ]
    if mean := mean_over_nets(results):
        pair, number = next(iter(found.values()))[0], len(found)
        nets = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
        words = difference_words(pair.first, pair.second, mean, margin(results))
        sentences.append(
            f"Over these {nets} nets, claim B of the mean of the {nets} leads, an interval by itself: {CLAIMS['B']}, "
            f"{words} ({scope(results)})."
        )
    return sentences


def details(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any]) -> list[str]:
    """The claims net by net, warnings, and how the intervals are meant."""
    sentences: list[str] = []
    for net, of_net in found.items():
        claims = [_course(pair, results) for pair in of_net if pair.course]
        claims += _of_pair(net, of_net[0], results) if len(of_net) == 1 else _of_all(of_net, results)
        claims += [_tuned(pair, pair.course, pair.tuned, results) for pair in of_net if pair.course and pair.tuned]
        sentences += [f"{net}, {sentence}" for sentence in claims]
    return [*sentences, *warnings(results), *_how(results)]


def margin(results: Mapping[str, Any]) -> float | None:
    """Of equivalence, in points; None where none was fixed for this data set."""
    found: float | None = results["config"]["margin"]
    return found


def scope(results: Mapping[str, Any], *, searched: bool = True) -> str:
    """What a claim rests on: trials, search spaces, seeds, images and epochs."""
    (seeds, images), config = seeds_and_images(results), results["config"]
    counts = [count_of(seeds, "seed"), count_of(images, "test image"), count_of(config["epochs"], "epoch")]
    trials = [f"{count_of(config['trials'], 'trial')} each", f"spaces of {PAGE}"] if searched else []
    return ", ".join([*trials, *counts])


def points(gap: Interval, sign: str = "") -> str:
    """`0.12 points [0.02, 0.22]`; with the sign "+" each with its sign."""
    mean, low, high = (f"{round(value, 2) + 0.0:{sign}.2f}" for value in gap)  # no -0.00
    return f"{mean} points [{low}, {high}]"


def oriented(first: str, second: str, gap: Interval) -> tuple[str, str, Interval]:
    """The pair with the higher mean first, and its lead."""
    return (first, second, gap) if gap.mean >= 0 else (second, first, gap.times(-1))


def difference_words(first: str, second: str, gap: Interval, limit: float | None) -> str:
    """What the interval of first - second says, in the words fixed beforehand.

    Args:
      first: label.
      second: label.
      gap: first minus second, in points, at its family's level.
      limit: margin of equivalence, in points; None: no two are ever called the same.
    """
    found = relation(gap, limit)
    signed = f"{first} minus {second}: {points(gap, '+')}"
    if found == "the same within the margin":
        return f"{first} and {second} are the same within {limit:g} points ({signed})"
    if found == "not shown to differ":
        return f"{first} and {second} are not shown to differ ({signed}; could be as much as {_most(gap):.2f})"
    better, worse, lead = oriented(first, second, gap)
    if found.endswith(_WITHIN):
        return f"{better} is better than {worse}, by less than {limit:g} points ({points(lead)})"
    return f"{better} is better than {worse} by {points(lead)}"


def short_words(first: str, second: str, gap: Interval, limit: float | None) -> str:
    """The same without the interval."""
    found = relation(gap, limit)
    if found == "the same within the margin":
        return f"{first} and {second} are the same within {limit:g} points"
    if found == "not shown to differ":
        return f"{first} and {second} are not shown to differ (could be as much as {_most(gap):.2f} points)"
    better, worse, lead = oriented(first, second, gap)
    by = f", by less than {limit:g} points" if found.endswith(_WITHIN) else f" by {lead.mean:.2f} points"
    return f"{better} is better than {worse}{by}"


def _most(gap: Interval) -> float:
    return max(-gap.low, gap.high)


def setting_words(setting: Setting) -> str:
    """`learning rate 0.21, momentum 0.9, nesterov, cosine`; values of 0 and False are left out."""
    words = []
    for name, value in setting.items():
        called = name.replace("_", " ")
        if isinstance(value, str):
            words.append(value)
        elif value is True:
            words.append(called)
        elif value:
            words.append(f"{called} {value:.3g}")
    return ", ".join(words)


def _headline(pair: Pair, results: Mapping[str, Any]) -> str:
    """Of the two optimizers of a net."""
    said = {"C": pair.course, "B": pair.searches}
    words = [
        f"{CLAIMS[claim]} (claim {claim}), {short_words(pair.first, pair.second, gap, margin(results))}"
        for claim, gap in said.items()
        if gap
    ]
    return f"{'; '.join(words)} ({scope(results)})."


def _headline_of_all(found: Sequence[Pair], results: Mapping[str, Any]) -> str:
    """Of three optimizers or more."""
    best = best_among({(pair.first, pair.second): pair.searches for pair in found})
    return f"{CLAIMS['B']} (claim B), the best is among: {'; '.join(best)} ({scope(results)})."


def _course(pair: Pair, results: Mapping[str, Any]) -> str:
    """Claim C."""
    assert pair.course
    words = difference_words(pair.first, pair.second, pair.course, margin(results))
    return f"claim C: {CLAIMS['C']}, {words} (no search, {scope(results, searched=False)})."


def _of_pair(net: str, pair: Pair, results: Mapping[str, Any]) -> list[str]:
    """Claims S and B of the two optimizers of a net."""
    first, second, limit = pair.first, pair.second, margin(results)
    entries = results["nets"][net]
    settings = "; ".join(
        f"{label}: {setting_words(entries[label]['trials'][entries[label]['chosen']]['settings'])}"
        for label in (first, second)
    )
    sentences = [
        f"claim S: {CLAIMS['S']} ({settings}), {difference_words(first, second, pair.settings.points, limit)}; a "
        f"difference of {pair.noticed:.2f} points would have been noticed in 9 of 10 studies ({scope(results)})."
    ]
    if pair.settings.points.excludes_zero and not pair.searches.excludes_zero:
        better, worse, lead = oriented(first, second, pair.settings.points)
        *_, luck = oriented(first, second, pair.searches)
        return [
            *sentences,
            f"claim B: {better}'s setting is better than {worse}'s by {points(lead)}; whether another search of "
            f"{count_of(results['config']['trials'], 'trial')} would find so is open ({points(luck, '+')}; "
            f"{scope(results)}).",
        ]
    words = difference_words(first, second, pair.searches, limit)
    return [*sentences, f"claim B: {CLAIMS['B']}, {words} ({scope(results)})."]


def _of_all(found: Sequence[Pair], results: Mapping[str, Any]) -> list[str]:
    """Claims S and B of three optimizers or more; the table has each pair."""
    noticed = [pair.noticed for pair in found]
    settings = {(pair.first, pair.second): pair.settings.points for pair in found}
    searches = {(pair.first, pair.second): pair.searches for pair in found}
    shown = [pair for pair, gap in settings.items() if gap.excludes_zero]
    sentences = [
        f"claim S: {CLAIMS['S']}, {_counts(settings, margin(results))} ({scope(results)}). Differences of "
        f"{min(noticed):.2f} to {max(noticed):.2f} points, depending on the pair, would have been noticed in 9 of 10 "
        "studies.",
        f"claim B: {CLAIMS['B']}, {_counts(searches, margin(results))} ({scope(results)}).",
    ]
    if opened := sum(not searches[pair].excludes_zero for pair in shown):
        sentences.append(
            f"claims S and B: of the {count_of(len(shown), 'pair')} whose settings are shown to differ, whether "
            f"another search of {count_of(results['config']['trials'], 'trial')} would find so is open for {opened} "
            f"({scope(results)})."
        )
    return sentences


def _counts(gaps: Mapping[tuple[str, str], Interval], limit: float | None) -> str:
    """How many pairs stand in which relation, and among which the best is."""
    said = [relation(gap, limit) for gap in gaps.values()]
    same, opened = (said.count(each) for each in ("the same within the margin", "not shown to differ"))
    less = sum(each.endswith(_WITHIN) for each in said)
    counts = [
        f"shown to differ: {len(said) - same - opened}{f' (by less than {limit:g} points: {less})' if limit else ''}",
        *([f"the same within {limit:g} points: {same}"] if limit else []),
        f"not shown to differ: {opened}",
    ]
    return (
        f"of {count_of(len(said), 'pair')}, {'; '.join(counts)}. The best is among: {'; '.join(best_among(gaps))}; no "
        "other is shown to be better than one of these"
    )


def _tuned(pair: Pair, course: Interval, tuned: Interval, results: Mapping[str, Any]) -> str:
    """How much of the course's lead tuning explains."""
    first, second, _ = oriented(pair.first, pair.second, course)
    gone = tuned if first == pair.first else tuned.times(-1)
    if not course.excludes_zero:
        return (
            f"claims C and S: from the course's settings to the chosen ones, {pair.first} minus {pair.second} changes "
            f"by {points(tuned.times(-1), '+')} (by itself; {scope(results)})."
        )
    share = ""
    if pair.share:
        low, high = (100 * end for end in pair.share)
        share = f"; tuning explains {low:.0f} to {high:.0f} % of it, for these two settings"
    return (
        f"claims C and S: of {first}'s lead over {second} with the course's settings, {points(gone, '+')} are gone "
        f"with the chosen ones{share} (each interval by itself; {scope(results)})."
    )


def warnings(results: Mapping[str, Any]) -> list[str]:
    """Where the best trials crowd at an end of the learning rate's range."""
    return [
        f"{net}: {edge_words(label, edge)}; a wider space may favour it."
        for (net, label), found in crowded_edges(results).items()
        for edge in found
        if "learning_rate" in edge.range.names
    ]


def budget_sentences(tuning: Mapping[str, Mapping[str, TuningCurves]], results: Mapping[str, Any]) -> list[str]:
    """At which small budgets one of a net's two optimizers is shown to get more out of its trials than the other."""
    sentences = []
    for net, curves in tuning.items():
        if len(curves) != 2:
            continue
        (one, first), (other, second) = curves.items()
        for ahead, behind, budgets in (
            (one, other, budgets_led(first.median, second.median)),
            (other, one, budgets_led(second.median, first.median)),
        ):
            if budgets:
                sentences.append(
                    f"{net}: of the best of {_budgets(budgets)} drawn from each space, {ahead}'s median validation "
                    f"accuracy is higher than {behind}'s ({count_of(results['config']['trials'], 'trial')} each, both "
                    f"bands together at {100 * results['config']['confidence']:g} %)."
                )
    return sentences


def _budgets(budgets: Sequence[int]) -> str:
    """`1 trial`, `1, 2, 3 trials`."""
    return count_of(1, "trial") if list(budgets) == [1] else f"{', '.join(map(str, budgets))} trials"


def edge_words(label: str, edge: Edge) -> str:
    """`the best trials of adam crowd at the low end of its space (learning rate)`."""
    who = f"the chosen trial of {label} lies" if edge.has_chosen else f"the best trials of {label} crowd"
    return f"{who} at the {edge.end} end of its space ({edge.range})"


def _how(results: Mapping[str, Any]) -> list[str]:
    """How the intervals are meant."""
    number, limit = number_of_pairs(results), margin(results)
    percent = f"{100 * results['config']['confidence']:g} %"
    together = (
        f"Intervals of each claim are simultaneous over its {count_of(number, 'pair')} (Bonferroni)"
        if number > 1
        else "The interval of each claim is by itself"
    )
    equal = (
        f"The same: the interval lies within {limit:g} points, a margin fixed beforehand."
        if limit
        else "For this data set no margin was fixed beforehand, so that no two optimizers are called the same."
    )
    return [
        f"{together}, {percent}, over seeds and test images, those of claim B over searches too; images count as "
        f"independent, as if each were by a writer of its own. {equal}"
    ]
