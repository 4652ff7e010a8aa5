"""A page on a run or study that opens without a network: tables, curves, and what each net does and gets wrong."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.style
import numpy as np
from markdown_it import MarkdownIt

from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import CLASSES, DIGITS, IDEAS, LESSONS, changes
from mnist_jax.nets.images import data_url, png
from mnist_jax.nets.trained import TrainedNet, class_names, probabilities
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.provenance import numerics
from mnist_jax.studies.stats import calibration, expected_calibration_error, fractions, ladder_gains
from mnist_jax.train import Examples, init_net
from mnist_jax.views import ladder
from mnist_jax.views.facts import facts
from mnist_jax.views.figures import curves_of_lessons, gains_figure
from mnist_jax.views.net_figures import (
    MOST_UNITS,
    calibration_figure,
    confusion_figure,
    first_layer_figure,
    weights_figure,
)
from mnist_jax.views.pages import page
from mnist_jax.views.words import count_of, data_words, what_was_run

_MOST_MISTAKES = 12
_BINS = 10  # of confidence

# What is on the figures that studies write, for those who cannot see them.
_STUDY_FIGURES = {
    "reproduce_notebooks.png": "The notebooks' printed accuracies and losses on the range of our seeds, and their z",
    "differences.png": "Differences in test accuracy between optimizers, with simultaneous intervals",
    "learning_rates.png": "Validation accuracy against learning rate, a point for each trial",
    "tuning_curves.png": "Best validation accuracy against the number of trials, with bands",
    "mechanism.png": "Size of updates and of gradients in each layer along training, SGD and Adam",
    "initialisation.png": "Variances of pre-activations and of gradients during training, one column per kind of net",
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture in a page.

    Attributes:
      alt: description in words.
      caption: below it.
      light: a data URL.
      dark: the same for a dark page; None where there is only the one.
    """

    alt: str
    caption: str
    light: str
    dark: str | None = None


def report_page(folder: Path, results: Mapping[str, Any], nets: Sequence[TrainedNet], test: Examples | None) -> str:
    """The page, HTML.

    Args:
      folder: of the run; the tables and figures that a study has written there are shown.
      results: as results.json holds it, or as the first line of runs.jsonl.
      nets: one per lesson; their pictures.
      test: the digits that the run was tested on; needed where there are nets.
    """
    table = _lessons(results)
    figures = [folder / name for name in _STUDY_FIGURES if (folder / name).is_file()]
    study = (
        _read(folder / TABLE).decode(errors="replace") if (folder / TABLE).is_file() and (figures or not table) else ""
    )
    is_start_known = results["config"].get("jax") == numerics()
    classes = class_names(results)
    shown = [] if test is None else [part for net in nets if (part := _net(net, test, classes, is_start_known))]
    return page(
        "report.html",
        title=folder.resolve().name,
        what=_what(results),
        lessons=table,
        study=_markup(study),
        study_pictures=[Picture(_STUDY_FIGURES[path.name], "", data_url(_read(path))) for path in figures],
        nets=shown,
        missing=_missing(results, {part["lesson_id"] for part in shown}) if table or nets else [],
        facts=facts(results),
    )


def _what(results: Mapping[str, Any]) -> str:
    """What the page describes, in one line."""
    config, data = results["config"], results["data"]
    if "imported" in config:
        return f"Imported, and tested on the {data['test']:,} test images of {data['name']}."
    # Studies have settings of other names, which their tables tell.
    return f"{what_was_run(results) if {'seeds', 'epochs'} <= set(config) else data_words(data)}."


def _missing(results: Mapping[str, Any], shown: Collection[str]) -> list[str]:
    """A sentence each on lessons that are not finished, and on finished ones of which there is no net to show."""
    ended = results.get("lessons", {})
    open_ones = [name for name in results["config"]["lessons"] if name not in ended]
    lost = [name for name in ended if name not in shown]
    return [
        *([f"Not finished yet: {', '.join(open_ones)}."] if open_ones else []),
        *([f"No net to show of {', '.join(lost)}: it diverged, or its checkpoint is not there."] if lost else []),
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}).") from error


def _markup(markdown: str) -> Any:
    """Markdown with tables as HTML, without its figures; tags in it are shown as text."""
    from markupsafe import Markup

    markdown = re.sub(r"^!\[.*\]\([\w.]+\)$", "", markdown, flags=re.MULTILINE)  # the page has its own copies of them
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))


def drawn_picture(alt: str, caption: str, draw: Callable[..., Any], *arguments: Any) -> Picture:
    """A figure drawn for a light page and for a dark one, both without a ground of their own."""
    drawn = []
    for style in ("default", "dark_background"):
        with matplotlib.style.context([style, {"savefig.transparent": True}]):
            drawn.append(data_url(draw(*arguments)))
    return Picture(alt, caption, *drawn)


def _lessons(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of the lessons and their curves, if they are in results.json."""
    lessons = {name: entry for name, entry in results.get("lessons", {}).items() if "test_correct" in entry}
    if not lessons:
        return None
    results = {**results, "lessons": lessons}
    notes = [*ladder.notes(results), *ladder.surprises(results)] if len(lessons) > 1 else []
    notes = [note.replace(" (gains.png)", "") for note in notes]  # the figure is below
    return {
        "header": ladder.header(results),
        "rows": ladder.rows(results),
        "notes": _markup("\n\n".join(notes)),
        "curves": _curves(results) if results["config"]["epochs"] else [],
        "gains": _gains(results),
    }


def _curves(results: Mapping[str, Any]) -> list[Picture]:
    pictures = []
    size = results["data"]["test"]
    accuracies = {name: fractions(entry["test_correct"], size) for name, entry in results["lessons"].items()}
    losses = {name: entry["test_loss"] for name, entry in results["lessons"].items()}
    for what, curves, unit, scale in (("accuracy", accuracies, " %", 100), ("loss", losses, " nats", 1)):
        ends = {name: [run[-1] for run in runs if run[-1] is not None] for name, runs in curves.items()}
        if not any(ends.values()):  # all diverged
            continue
        words = ", ".join(f"{name} {scale * np.mean(values):.4g}{unit}" for name, values in ends.items() if values)
        band = " (bands: range over seeds)" if len(results["config"]["seeds"]) > 1 else ""
        pictures.append(
            drawn_picture(
                f"Test {what} after each epoch; at the end {words}",
                f"Test {what} after each epoch{band}.",
                curves_of_lessons,
                curves,
                what,
            )
        )
    return pictures


def _gains(results: Mapping[str, Any]) -> Picture | None:
    """What each lesson's change did, if the lesson before was run too."""
    gains = ladder_gains(results)
    if not gains:
        return None
    words = ", ".join(
        f"{after} over {before} {np.mean(epochs[-1]):+.2f} after epoch {len(epochs)}"
        for (before, after), epochs in gains.items()
        if epochs
    )
    return drawn_picture(
        f"Gain in test accuracy after each epoch, in percentage points: {words}",
        "What each lesson's change did to test accuracy after each epoch.",
        gains_figure,
        results,
        "Each lesson minus the one before",
    )


def _net(net: TrainedNet, test: Examples, classes: Sequence[str], is_start_known: bool) -> dict[str, Any] | None:
    """What the page shows of one net; nothing where its outputs are not finite.

    Args:
      net: the net.
      test: what it is tested on.
      classes: their names.
      is_start_known: whether JAX gives the initial weights here that it gave the run.
    """
    try:
        found = probabilities(net, test.images)
    except UserError:
        return None
    labels = np.asarray(test.labels, int)
    answers = found.argmax(1)
    right = answers == labels
    return {
        "lesson_id": net.lesson_id,
        "idea": _idea(net),
        "summary": (
            f"Below is the net of {net}: {right.mean():.2%} of the {test.size:,} test images right, "
            f"{count_of(int((~right).sum()), 'mistake')}."
        ),
        "mistakes": _mistakes(test.images, labels, found, classes),
        "pictures": [
            confusion_picture(labels, answers, classes),
            _calibration(found.max(1), right),
            _first_layer(net),
            _weights(net, is_start_known),
        ],
    }


def _idea(net: TrainedNet) -> str:
    """What the lesson changed, and where this net is not the course's."""
    differences = changes(net.state.lesson, LESSONS[net.lesson_id])
    others = ", ".join(f"{name} {new} instead of {old}" for name, (old, new) in differences.items())
    return IDEAS[net.lesson_id] + (f" Other than in the course: {others}." if others else "")


def _mistakes(images: np.ndarray, labels: np.ndarray, found: np.ndarray, classes: Sequence[str]) -> list[Picture]:
    """The wrongly answered digits that got the lowest probabilities, the worst first."""
    answers = found.argmax(1)
    given = found[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(given[wrong], kind="stable")][:_MOST_MISTAKES]
    return [
        Picture(
            alt=f"Test image {index}: {classes[labels[index]]}, taken for {classes[answers[index]]}",
            caption=f"{classes[labels[index]]}, taken for {classes[answers[index]]} ({found[index].max():.1%})",
            light=data_url(png(images[index])),
        )
        for index in worst
    ]


def confusion_picture(labels: np.ndarray, answers: np.ndarray, classes: Sequence[str] = DIGITS) -> Picture:
    """How often each class, of `labels [images]`, was taken for each, of `answers [images]`."""
    noun = "digit" if classes == DIGITS else "class"
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, answers), 1)
    mistakes = np.where(np.eye(CLASSES, dtype=bool), 0, counts)
    often = [np.unravel_index(place, mistakes.shape) for place in np.argsort(-mistakes, axis=None, kind="stable")[:3]]
    words = ", ".join(
        f"{classes[label]} taken for {classes[answer]} ({count_of(int(mistakes[label, answer]), 'time')})"
        for label, answer in often
        if mistakes[label, answer]
    )
    caption = f"Which {noun} is taken for which; most often {words}." if words else f"No {noun} is taken for another."
    return drawn_picture(f"Confusion matrix. {caption}", caption, confusion_figure, counts, classes)


def _calibration(confidence: np.ndarray, right: np.ndarray) -> Picture:
    bins = calibration(confidence, right, _BINS)
    error = expected_calibration_error(bins)
    caption = (
        f"Are its probabilities right? On average it gives its answers {confidence.mean():.1%}, and {right.mean():.1%} "
        f"are right; expected calibration error {100 * error:.2f} points, in {_BINS} bins."
    )
    return drawn_picture(f"Reliability diagram. {caption}", caption, calibration_figure, bins)


def _first_layer(net: TrainedNet) -> Picture:
    kernel = np.asarray(net.state.params["fc1"]["kernel"])
    units = kernel.shape[1]
    which = f"all {units} units" if units <= MOST_UNITS else f"the {MOST_UNITS} of {units} with the largest weights"
    caption = f"The first layer's weights, one picture per unit, of {which}: ink on red adds, on blue subtracts."
    return drawn_picture(caption, caption, first_layer_figure, kernel)


def _weights(net: TrainedNet, is_start_known: bool) -> Picture:
    final = _kernels(net.state.params)
    initial = None
    if net.epoch and is_start_known:  # an imported net's never is
        initial = _kernels(init_net(net.state.lesson, jax.random.key(net.seed)).params)
    spreads = ", ".join(
        f"{layer} {f'{initial[layer].std():.3g} to ' if initial else ''}{kernel.std():.3g}"
        for layer, kernel in final.items()
    )
    after = "before the first step and after the last" if initial else "after the last step"
    when = after if net.epoch else "as imported"
    caption = f"Weights {when}; their standard deviation: {spreads}."
    return drawn_picture(
        f"Histograms of weights, one panel per layer, densities on a logarithmic scale. {caption}",
        caption,
        weights_figure,
        initial,
        final,
    )


def _kernels(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {layer: np.asarray(arrays["kernel"]) for layer, arrays in params.items() if "kernel" in arrays}
