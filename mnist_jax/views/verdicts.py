"""The findings of a comparison of optimizers in sentences, each of which names its claim and what it rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnist_jax.studies.findings import Pair, crowded_edges, mean_over_nets, number_of_pairs, seeds_and_images
from mnist_jax.studies.inference import best_among, relation
from mnist_jax.studies.spaces import EDGES, Edge, Setting
from mnist_jax.studies.stats import Interval
from mnist_jax.studies.tuning_curves import TuningCurves, budgets_led
from mnist_jax.views.intervals import decimals, detectable, points, rounded, share_words
from mnist_jax.views.search_spaces import PAGE
from mnist_jax.views.words import count_of

CLAIMS = {
    "C": "with the course's settings",
    "S": "with the chosen settings",
    "B": "as found by such searches",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WITHIN = ", by less than the margin"


def headlines(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any]) -> list[str]:
    """One sentence per net, and one about all of them together."""
    sentences = [
        f"{net}: {_headline(of_net[0], results) if len(of_net) == 1 else _headline_of_all(of_net, results)}"
        for net, of_net in found.items()
    ]
    if mean := mean_over_nets(results):
        pair, number = next(iter(found.values()))[0], len(found)
        nets = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
        words = difference_words(pair.first, pair.second, mean, margin(results), scope(results))
        sentences.append(
            f"Over these {nets} nets, the mean of the {nets} leads: {CLAIMS['B']} (claim B, unadjusted interval), "
            f"{words}."
        )
    return sentences


def details(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any]) -> list[str]:
    """The claims net by net, warnings, and how to read the intervals."""
    sentences: list[str] = []
    for net, of_net in found.items():
        claims = [_course(pair, results) for pair in of_net if pair.course]
        claims += _of_pair(net, of_net[0], results) if len(of_net) == 1 else _of_all(of_net, results)
        claims += [_tuned(pair, pair.course, pair.tuned, results) for pair in of_net if pair.course and pair.tuned]
        sentences += [f"{net}, {sentence}" for sentence in claims]
    return [*sentences, *warnings(results), *_how(found, results)]


def margin(results: Mapping[str, Any]) -> float | None:
    """The margin of equivalence in points; None if none was fixed for this data set."""
    found: float | None = results["config"]["margin"]
    return found


def scope(results: Mapping[str, Any], *, searched: bool = True) -> str:
    """What a claim rests on: trials, search spaces, seeds, images and epochs."""
    seeds, images = seeds_and_images(results)
    epochs = count_of(results["config"]["epochs"], "epoch")
    counts = [count_of(seeds, "seed"), count_of(images, "test image"), epochs]
    search = [f"{_trials(results)} each", f"spaces of {PAGE}"] if searched else ["no search"]
    return ", ".join([*search, *counts])


def _trials(results: Mapping[str, Any]) -> str:
    return count_of(results["config"]["trials"], "trial")


def oriented(first: str, second: str, gap: Interval) -> tuple[str, str, Interval]:
    """The pair with the higher mean first, and its lead."""
    return (first, second, gap) if gap.mean >= 0 else (second, first, gap.times(-1))


def difference_words(first: str, second: str, gap: Interval, limit: float | None, rests_on: str = "") -> str:
    """What the interval of first - second says, in wording that was fixed beforehand.

    Args:
      first: label of one optimizer.
      second: label of the other.
      gap: first minus second, in points, at its family's level.
      limit: margin of equivalence, in points; if None, no two are ever called the same.
      rests_on: `scope`, added in the same brackets.
    """
    found = relation(gap, limit)
    signed = f"{first} minus {second}: {points(gap, limit, '+')}"
    better, worse, lead = oriented(first, second, gap)
    if found == "the same within the margin":
        words, extra = f"{first} and {second} are the same within {limit:g} points", [signed]
    elif found == "not shown to differ":
        most = rounded(max(-gap.low, gap.high), decimals(gap, limit))
        words, extra = f"{first} and {second} are not shown to differ", [signed, f"could be as much as {most}"]
    elif found.endswith(_WITHIN):
        words, extra = f"{better} is better than {worse}, by less than {limit:g} points", [points(lead, limit)]
    else:
        words, extra = f"{better} is better than {worse} by {points(lead, limit)}", []
    brackets = "; ".join([*extra, *([rests_on] if rests_on else [])])
    return f"{words} ({brackets})" if brackets else words


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
    """The headline for the two optimizers of a net."""
    claims = [_claim("C", pair, pair.course, results)] if pair.course else []
    return f"{'; '.join([*claims, _claim('B', pair, pair.searches, results)])}."


def _claim(claim: str, pair: Pair, gap: Interval, results: Mapping[str, Any]) -> str:
    """What a claim says about a pair, and what it rests on."""
    rests_on = scope(results, searched=claim != "C")
    words = difference_words(pair.first, pair.second, gap, margin(results), rests_on)
    return f"{CLAIMS[claim]} (claim {claim}), {words}"


def _headline_of_all(found: Sequence[Pair], results: Mapping[str, Any]) -> str:
    """The headline for three or more optimizers."""
    best = best_among({(pair.first, pair.second): pair.searches for pair in found})
    return f"{CLAIMS['B']} (claim B), the best is among: {'; '.join(best)} ({scope(results)})."


def _course(pair: Pair, results: Mapping[str, Any]) -> str:
    """Claim C."""
    assert pair.course
    words = difference_words(pair.first, pair.second, pair.course, margin(results), scope(results, searched=False))
    return f"claim C: {CLAIMS['C']}, {words}."


def _of_pair(net: str, pair: Pair, results: Mapping[str, Any]) -> list[str]:
    """Claims S and B for the two optimizers of a net."""
    first, second, limit, rests_on = pair.first, pair.second, margin(results), scope(results)
    entries = results["nets"][net]
    settings = "; ".join(
        f"{label}: {setting_words(entries[label]['trials'][entries[label]['chosen']]['settings'])}"
        for label in (first, second)
    )
    of_settings = difference_words(first, second, pair.settings.points, limit, rests_on)
    of_searches = difference_words(first, second, pair.searches, limit, rests_on)
    still_open = ""
    if is_open(pair, limit):
        setting = difference_words(f"{first}'s setting", f"{second}'s setting", pair.settings.points, limit)
        still_open = f": {setting}; whether another search of {_trials(results)} would find so is open"
    return [
        f"claim S: {CLAIMS['S']} ({settings}), {of_settings}; a difference of {detectable(pair.noticed)} points would "
        "have been noticed in 9 of 10 studies.",
        f"claim B: {CLAIMS['B']}, {of_searches}{still_open}.",
    ]


def is_open(pair: Pair, limit: float | None) -> bool:
    """Whether the settings are shown to differ, but not what another search would find."""
    return pair.settings.points.excludes_zero and relation(pair.searches, limit) == "not shown to differ"


def _of_all(found: Sequence[Pair], results: Mapping[str, Any]) -> list[str]:
    """Claims S and B for three or more optimizers; the table has each pair."""
    least, most = (detectable(chosen(pair.noticed for pair in found)) for chosen in (min, max))
    noticed = (
        f"A difference of {most} points"
        if least == most
        else f"Differences of {least} to {most} points, depending on the pair,"
    )
    settings = {(pair.first, pair.second): pair.settings.points for pair in found}
    searches = {(pair.first, pair.second): pair.searches for pair in found}
    shown = sum(gap.excludes_zero for gap in settings.values())
    sentences = [
        f"claim S: {CLAIMS['S']}, {_counts(settings, margin(results))} ({scope(results)}). {noticed} would "
        "have been noticed in 9 of 10 studies.",
        f"claim B: {CLAIMS['B']}, {_counts(searches, margin(results))} ({scope(results)}).",
    ]
    if opened := sum(is_open(pair, margin(results)) for pair in found):
        of = "the pair" if shown == 1 else f"the {shown} pairs"
        sentences.append(
            f"claims S and B: of {of} whose settings are shown to differ, whether another search of {_trials(results)} "
            f"would find so is open for {opened} ({scope(results)})."
        )
    return sentences


def _counts(gaps: Mapping[tuple[str, str], Interval], limit: float | None) -> str:
    """Numbers of pairs in each relation, and the optimizers among which the best is."""
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
    """How tuning changes the course's lead, and how much of it tuning explains."""
    first, second, lead = oriented(pair.first, pair.second, course)
    gone = tuned if first == pair.first else tuned.times(-1)
    if lead.excludes_zero and gone.low > 0:
        words = (
            f"of {first}'s lead over {second} with the course's settings, {points(gone)} are gone with the chosen ones"
        )
    else:
        what = f"{first}'s lead over {second}" if lead.excludes_zero else f"{pair.first} minus {pair.second}"
        change = (gone if lead.excludes_zero else tuned).times(-1)
        shown = "" if change.excludes_zero else ", not shown to differ from 0"
        words = f"from the course's settings to the chosen ones, {what} changes by {points(change, sign='+')}{shown}"
    if not pair.share:
        return f"claims C and S: {words} (unadjusted; {scope(results)})."
    low, high = pair.share
    beyond = [
        *(["below 0 %: the lead would be larger"] if low < 0 else []),
        *([f"above 100 %: {second} would lead"] if high > 1 else []),
    ]
    return (
        f"claims C and S: {words}; tuning explains {share_words(pair.share)} of it, for these two settings "
        f"({'; '.join([*beyond, 'each interval unadjusted', scope(results)])})."
    )


def warnings(results: Mapping[str, Any]) -> list[str]:
    """One sentence wherever the best trials crowd at an end of the learning rate's range."""
    return [
        f"{net}: {edge_words(label, edge)}; a wider space may favour it."
        for (net, label), found in crowded_edges(results).items()
        for edge in found
        if "learning_rate" in edge.range.names
    ]


def budget_sentences(tuning: Mapping[str, Mapping[str, TuningCurves]], results: Mapping[str, Any]) -> list[str]:
    """At which budgets one of a net's two optimizers is shown to gain more from its trials than the other."""
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
                    f"{net}: with {_budgets(budgets)}, the median of {ahead}'s best validation accuracy is higher than "
                    f"{behind}'s ({_trials(results)} each, both bands together at "
                    f"{100 * results['config']['confidence']:g} %)."
                )
    return sentences


def _budgets(budgets: Sequence[int]) -> str:
    """`1 trial`, `1, 2 or 3 trials`."""
    *others, last = map(str, budgets)
    return f"{', '.join(others)} or {last} trials" if others else count_of(budgets[0], "trial")


def edge_words(label: str, edge: Edge) -> str:
    """`the best trials of adam crowd at the low end of its space (learning rate)`."""
    crowd, chosen = f"the best trials of {label} crowd", f"the chosen trial of {label} lies"
    if not edge.has_chosen:
        who = crowd
    else:
        who = f"{crowd}, and the chosen one lies," if edge.crowded >= EDGES["crowd"] else chosen
    return f"{who} at the {edge.end} end of its space ({edge.range})"


def _how(found: Mapping[str, Sequence[Pair]], results: Mapping[str, Any]) -> list[str]:
    """How to read the intervals."""
    number, limit = number_of_pairs(results), margin(results)
    percent = f"{100 * results['config']['confidence']:g} %"
    of_course = sum(pair.course is not None for of_net in found.values() for pair in of_net)
    together = "The interval of each claim stands alone"
    if number > 1:
        fewer = (
            f"; claim C has {count_of(of_course, 'pair')} and takes the same level" if 0 < of_course < number else ""
        )
        together = f"Intervals of each claim are simultaneous over {count_of(number, 'pair')} (Bonferroni{fewer})"
    stricter = (
        " A share is told only where the interval of claim C, at its family's level, excludes 0, a stricter condition "
        "than an unadjusted one."
        if of_course and number > 1
        else ""
    )
    equal = (
        f"The same: the interval lies within {limit:g} points, a margin fixed beforehand."
        if limit
        else "For this data set no margin was fixed beforehand, so that no two optimizers are called the same."
    )
    return [
        f"{together}, {percent}, over seeds and test images, those of claim B over searches too; images count as "
        f"independent, as if each were by a writer of its own. {equal}{stricter}"
    ]
