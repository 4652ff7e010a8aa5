"""What a comparison with the notebooks' published curves found, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnist_jax.runs.loop import EPOCHS
from mnist_jax.studies.reproduction import FEWEST_SEEDS_OF_CURVES, FIRST_SEEDS, LEVEL, SEEDS, noticed_in_all
from mnist_jax.views.words import markdown_table, what_was_run

NOTE = "Ours: mean ± standard deviation; losses: mean cross-entropy in nats."
NOTICED = "Noticed: the error in that number, at epoch 10, that the rule finds in 9 of 10 studies, estimated."
CURVES_NOTE = (
    "Rows: published curves; columns: p against our runs of each lesson. Noticed: an error in all ten losses alone, or "
    "in the log odds of all ten accuracies alone (shown in points at epoch 10), that the test against the lesson's own "
    "runs finds in 9 of 10 studies, estimated from their spread; in brackets, what the rule point by point finds of "
    "the same error at its most sensitive epoch. A smaller one may have been missed."
)
CHOICE = (
    "The three contrasts were chosen with the published curves and seeds 0 to 9 in view, so that other lessons' curves "
    "would be rejected; with each of the nine sets tried on those seeds no lesson's own curve was rejected (smallest p "
    "0.059)."
)
SMALLEST = 0.0001  # smallest p that is shown: further out, real runs may not be normal
HEADER = [
    "lesson", "what", "notebook, epoch 10", "ours, epoch 10", "z", "largest z of 10 epochs", "outside", "noticed",
]  # fmt: skip
POINT_HEADER = [
    "lesson", "what", "epoch", "notebook", "mean", "standard deviation", "lowest", "highest", "noticed", "z",
]  # fmt: skip


def point_verdict(found: Mapping[str, Any]) -> str:
    """The verdict of the rule point by point, in words."""
    points = found["points"]
    outside = [point for point in points if point["outside"]]
    nominal = sum(point["p"] < LEVEL for point in points)
    rest = (
        f" One by one, {nominal} of {len(points)} have p below {LEVEL:g}; about {LEVEL * len(points):.0f} would by "
        "chance, in runs of neighbouring epochs, which vary together."
    )
    if not outside:
        return f"Reproduced: none of the {len(points)} published points is outside.{rest}"
    names = ", ".join(f"{point['lesson']} {point['what']} epoch {point['epoch']}" for point in outside)
    lessons = {point["lesson"] for point in points} - {point["lesson"] for point in outside}
    return (
        f"{len(outside)} of the {len(points)} published points are outside: {names}. "
        f"Reproduced: {', '.join(sorted(lessons)) or 'no lesson'}.{rest}"
    )


def point_limits(found: Mapping[str, Any]) -> str:
    """What the rule point by point could have missed, in words."""
    last = [point for point in found["points"] if point["epoch"] == EPOCHS]
    accuracy = [100 * point["noticed"] for point in last if point["what"] == "accuracy"]
    loss = [100 * point["noticed"] / point["mean"] for point in last if point["what"] == "loss"]
    pairs = len(last) // 2 * (len(last) // 2 - 1)
    passed = [f"the curve of {lesson_id} against our runs of {other}" for lesson_id, other in found["pass_too"]]
    return (
        "What this rule could have missed: an error at epoch 10 is noticed in 9 of 10 studies only if accuracy is off "
        f"by {min(accuracy):.1f} to {max(accuracy):.1f} points or loss by {min(loss):.0f} to {max(loss):.0f} %, "
        "depending on the lesson. With each published curve compared with our runs of the other lessons, "
        f"no point is outside in {len(passed)} of {pairs} pairs{': ' if passed else ''}{'; '.join(passed)}."
    )


def curve_verdict(found: Mapping[str, Any] | None, seeds: int) -> str:
    """The verdict of the test curve by curve, in words."""
    if found is None:
        return (
            f"Curves as a whole were not tested: that needs at least {FEWEST_SEEDS_OF_CURVES} seeds, better {SEEDS}; "
            f"this study has {seeds}."
        )
    own = {lesson_id: ps[lesson_id] for lesson_id, ps in found["p"].items()}
    rejected = [lesson_id for lesson_id, p in own.items() if p < found["limit"]]
    smallest = min(own, key=lambda lesson_id: own[lesson_id])
    others = {(row, column): p for row, ps in found["p"].items() for column, p in ps.items() if row != column}
    passed = [f"{row} against {column} (p = {p:.2g})" for (row, column), p in others.items() if p >= found["limit"]]
    what = f"are rejected: {', '.join(rejected)}" if rejected else "none is rejected"
    return (
        f"As a whole, with {seeds} seeds{'' if seeds == SEEDS else f' ({SEEDS} were planned)'}: of the {len(own)} "
        f"published curves {what} (smallest p {own[smallest]:.2g}, {smallest}; limit {LEVEL:g}/{len(own)} = "
        f"{found['limit']:.4f}). Tested against our runs of another lesson, {len(others) - len(passed)} of "
        f"{len(others)} are rejected{'; not rejected: ' if passed else ''}{'; '.join(passed)}."
    )


def curve_limits(found: Mapping[str, Any]) -> str:
    """How our own curves fare in the test curve by curve, in words: what it rejects wrongly, and what it misses."""
    ours = [p for ps in found["leave_one_out"].values() for p in ps]
    shares = {(row, column): share for row, by in found["ours_rejected"].items() for column, share in by.items()}
    missed = [f"{row} against {column} ({100 * share:.0f} %)" for (row, column), share in shares.items() if share < 1]
    return (
        f"Of our own {len(ours)} curves, each tested against the others of its lesson, "
        f"{100 * np.mean(np.array(ours) < LEVEL):.1f} % have p below {LEVEL:g} ({100 * LEVEL:.0f} % expected). Tested "
        f"against the runs of another lesson, all are rejected{', except for ' if missed else ''}{', '.join(missed)}."
    )


def summary(points: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row per lesson and quantity."""
    rows = []
    for lesson_id, what in dict.fromkeys((point["lesson"], point["what"]) for point in points):
        ten = [point for point in points if (point["lesson"], point["what"]) == (lesson_id, what)]
        last = ten[-1]
        rows.append(
            [
                lesson_id,
                what,
                _number(last, "published"),
                f"{_number(last, 'mean')} ± {_number(last, 'standard_deviation')}",
                f"{last['z']:+.1f}",
                f"{max(abs(point['z']) for point in ten):.1f}",
                str(sum(point["outside"] for point in ten)),
                _noticed(last),
            ]
        )
    return rows


def _number(point: Mapping[str, Any], field: str) -> str:
    return f"{100 * point[field]:.2f} %" if point["what"] == "accuracy" else f"{point[field]:.4f}"


def _noticed(point: Mapping[str, Any]) -> str:
    if point["what"] == "accuracy":
        return f"{100 * point['noticed']:.2f} points"
    return f"{100 * point['noticed'] / point['mean']:.1f} %"


def curve_header(found: Mapping[str, Any]) -> list[str]:
    """Header of the table of `curve_rows`."""
    return ["notebook's curve", *found["p"], "losses noticed (by point)", "accuracies noticed (by point)"]


def curve_rows(found: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row per published curve: p against our runs of each lesson, and what its own lesson's test would notice."""
    rows = []
    for lesson_id, ps in found["p"].items():
        curve = found["noticed"][lesson_id]
        point = noticed_in_all([point for point in points if point["lesson"] == lesson_id])
        rows.append(
            [
                lesson_id,
                *(f"{p:.2g}" if p >= SMALLEST else f"< {SMALLEST}" for p in ps.values()),
                f"{100 * (curve['loss_factor'] - 1):.1f} % ({100 * (point['loss_factor'] - 1):.1f} %)",
                f"{100 * curve['last_accuracy']:.2f} ({100 * point['last_accuracy']:.2f}) points",
            ]
        )
    return rows


def seeds_by_point(results: Mapping[str, Any]) -> str:
    """The seeds to which the rule point by point is applied, in words."""
    return f"seeds 0 to {results['by_point']['seeds'] - 1}"


def reproduction_table(results: Mapping[str, Any]) -> bytes:
    """The tables and verdicts of a reproduction's results.json, as Markdown."""
    found, curves, seeds = results["by_point"], results["by_curve"], len(results["config"]["seeds"])
    points = found["points"]
    all_points = [
        [
            point["lesson"],
            point["what"],
            str(point["epoch"]),
            *(_number(point, field) for field in ("published", "mean", "standard_deviation", "lowest", "highest")),
            _noticed(point),
            f"{point['z']:+.2f}" + (" outside" if point["outside"] else ""),
        ]
        for point in points
    ]
    how = f"{what_was_run(results)}; point by point: {seeds_by_point(results)}. {NOTE} {NOTICED}"
    text = f"{markdown_table(HEADER, summary(points))}\n{how}\n\n**{point_verdict(found)}** {point_limits(found)}\n\n"
    if curves:
        fresh = f" Seeds {FIRST_SEEDS} to {seeds - 1} are fresh." if seeds > FIRST_SEEDS else ""
        text += f"{markdown_table(curve_header(curves), curve_rows(curves, points))}\n{CURVES_NOTE} {CHOICE}{fresh}\n\n"
    text += f"**{curve_verdict(curves, seeds)}**{f' {curve_limits(curves)}' if curves else ''}\n\n"
    text += f"Every point:\n\n{markdown_table(POINT_HEADER, all_points)}"
    return text.encode()
