"""The report of a comparison of optimizers: verdict, tables and figures of its results.json."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnist_jax.runs.files import TABLE
from mnist_jax.studies.findings import Pair, pairs, tuning
from mnist_jax.studies.mechanism import followed_net
from mnist_jax.studies.tuning_curves import TuningCurves
from mnist_jax.views import comparison_figures as figures
from mnist_jax.views import comparison_tables as tables
from mnist_jax.views.verdicts import budget_sentences, details, headlines, scope, setting_words
from mnist_jax.views.words import count_of, data_words, device_words, markdown_table

QUICK_NOTICE = "QUICK: short epochs and few runs, to see how it works. This is not the study; do not quote it."
_SHOWN = {
    "differences": "Differences in test accuracy with their intervals, claim by claim",
    "learning_rates": "Validation accuracy of every trial against its learning rate",
    "tuning_curves": "Best validation accuracy against the number of trials, with bands",
    "mechanism": "Ratio of update to weights, and size of gradients, in each layer along training",
}


def verdict(results: Mapping[str, Any]) -> list[str]:
    """The findings in sentences: the headlines, the claims net by net, warnings, and how to read the intervals."""
    found = pairs(results)
    return [*headlines(found, results), *details(found, results)]


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the tables and the figures of results.json."""
    found, curves, title = pairs(results), tuning(results), what_was_compared(results)
    files = {
        TABLE: _page(found, curves, results).encode(),
        "differences.png": figures.differences_figure(found, results, title),
        "learning_rates.png": figures.learning_rates_figure(results, title),
        "tuning_curves.png": figures.tuning_curves_figure(curves, results, title),
    }
    if "mechanism" in results:
        files["mechanism.png"] = figures.mechanism_figure(results["mechanism"], what_was_followed(results))
    return files


def _page(
    found: Mapping[str, Sequence[Pair]],
    curves: Mapping[str, Mapping[str, TuningCurves]],
    results: Mapping[str, Any],
) -> str:
    """Headlines, tables and the verdict, as Markdown."""
    config = results["config"]
    steps = config["test_every"], config["epochs"] * config["steps_per_epoch"]
    pair_table = [
        _table(tables.PAIR_HEADER, tables.pair_rows(found, results)),
        f"{what_was_compared(results)} {tables.PAIR_NOTE}",
    ]
    is_long = max(map(len, found.values())) > 1
    parts = [
        *([f"**{QUICK_NOTICE}**"] if config["quick"] else []),
        _bullets(f"**{sentence}**" for sentence in headlines(found, results)),
        *([] if is_long else pair_table),
        _embedded("differences"),
        _bullets(details(found, results)),
        *(["All pairs:", *pair_table] if is_long else []),
        "At the chosen settings, with fresh seeds:",
        _table(tables.FINAL_HEADER, tables.final_rows(results)),
        tables.FINAL_NOTE,
        _table(tables.STEPS_HEADER, tables.steps_rows(results)),
        tables.STEPS_NOTE.format(every=steps[0], limit=steps[1]),
        "The searches, on validation images:",
        _embedded("learning_rates"),
        _table(tables.SEARCH_HEADER, tables.search_rows(results)),
        tables.SEARCH_NOTE,
        _embedded("tuning_curves"),
        f"{' '.join(budget_sentences(curves, results))} {tables.CURVES_NOTE}".strip(),
        "What early stopping would have saved, computed afterwards; no trial was stopped:",
        _table(*tables.savings_table(results)),
        tables.SAVINGS_NOTE,
        *([_embedded("mechanism")] if "mechanism" in results else []),
    ]
    return "\n\n".join(parts) + "\n"


def what_was_compared(results: Mapping[str, Any]) -> str:
    """Nets, data, what each claim rests on and the device in one line."""
    nets = list(results["nets"])
    of = "Net of lesson" if len(nets) == 1 else "Nets of lessons"
    return f"{of} {', '.join(nets)}; {data_words(results['data'])}; {scope(results)}; {device_words(results)}."


def what_was_followed(results: Mapping[str, Any]) -> str:
    """Net, settings, data and seed of the runs whose updates and gradients were measured, in one line."""
    net = followed_net(results["nets"])
    entries = results["nets"][net]
    settings = "; ".join(
        f"{label}: {setting_words(entries[label]['trials'][0]['settings'])}" for label in results["mechanism"]
    )
    seeds = sorted({entries[label]["final"]["seeds"][0] for label in results["mechanism"]})
    return (
        f"Net of lesson {net} with the settings of trial 0 ({settings}); {results['data']['name']}; "
        f"{count_of(results['config']['epochs'], 'epoch')}; seed {', '.join(map(str, seeds))}."
    )


def _embedded(figure: str) -> str:
    return f"![{_SHOWN[figure]}]({figure}.png)"


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(header, rows).rstrip()
