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
from mnist_jax.lessons import CLASSES, DIGITS, LESSONS, changes
from mnist_jax.nets.images import data_url, png
from mnist_jax.nets.trained import TrainedNet, class_names, probabilities
from mnist_jax.runs.files import TABLE
from mnist_jax.runs.provenance import numerics
from mnist_jax.studies.stats import calibration, expected_calibration_error, fractions, ladder_gains
from mnist_jax.train import Examples, init_net
from mnist_jax.views import ladder
from mnist_jax.views.facts import facts
from mnist_jax.views.figures import curves_of_lessons, gains_figure
from mnist_jax.views.languages import COLUMNS, ENGLISH, READING, WORDS, Count, Language, Words
from mnist_jax.views.net_figures import (
    MOST_UNITS,
    calibration_figure,
    confusion_figure,
    first_layer_figure,
    weights_figure,
)
from mnist_jax.views.pages import page
from mnist_jax.views.words import data_name, data_words, history, what_was_run

_MOST_MISTAKES = 12
_BINS = 10  # of confidence

READ = ("curves", "gains", "nets", "study", "columns")  # what has a text on how to read it, as has each figure below

# Figures that studies write; `figure_NAME` of the words is for those who cannot see them.
STUDY_FIGURES = (
    "reproduce_notebooks", "differences", "learning_rates", "tuning_curves", "mechanism", "initialisation"
)  # fmt: skip


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


def report_page(
    folder: Path,
    results: Mapping[str, Any],
    nets: Sequence[TrainedNet],
    test: Examples | None,
    language: Language = "en",
) -> str:
    """The page, HTML.

    Args:
      folder: of the run; the tables and figures that a study has written there are shown.
      results: as results.json holds it, or as the first line of runs.jsonl.
      nets: one per lesson; their pictures.
      test: the digits that the run was tested on; needed where there are nets.
      language: of the page; what the study wrote, and labels in figures, stay English.
    """
    words = WORDS[language]
    reading = {name: _markup(READING[language].get(name, "")) for name in (*READ, *STUDY_FIGURES)}
    table = _lessons(results, words)
    figures = [path for name in STUDY_FIGURES if (path := folder / f"{name}.png").is_file()]
    study = (
        _read(folder / TABLE).decode(errors="replace") if (folder / TABLE).is_file() and (figures or not table) else ""
    )
    is_start_known = results["config"].get("jax") == numerics()
    classes = class_names(results)
    shown = [] if test is None else [part for net in nets if (part := _net(net, test, classes, is_start_known, words))]
    return page(
        "report.html",
        language=language,
        words=words,
        title=folder.resolve().name,
        what=_what(results, words),
        lessons=table,
        study=_markup(study),
        study_columns=_columns(study, COLUMNS[language]),
        study_pictures=[
            Picture(words[f"figure_{path.stem}"], reading[path.stem], data_url(_read(path))) for path in figures
        ],
        nets=shown,
        reading=reading,
        missing=_missing(results, {part["lesson_id"] for part in shown}, words) if table or nets else [],
        facts=facts(results, words),
    )


def _what(results: Mapping[str, Any], words: Words) -> str:
    """What the page describes, in one line."""
    config, data = results["config"], results["data"]
    if "imported" in config:
        return words["tested"].format(images=Count(data["test"]), name=data_name(data["name"], words))
    # Studies have settings of other names, which their tables tell.
    run = what_was_run(results, words) if {"seeds", "epochs"} <= set(config) else data_words(data, words)
    return words["what"].format(run=run)


def _columns(study: str, meanings: Words) -> list[tuple[str, str]]:
    """Headings of a study's tables and what they mean, each meaning once."""
    headings = re.findall(r"^\|(.*)\|\n\| ---", study, re.MULTILINE)
    cells = dict.fromkeys(cell.strip() for heading in headings for cell in heading.split("|"))
    found: dict[str, str] = {}
    for cell in cells:
        if meaning := meanings.get(re.sub(r"\d[\d,.]*", "#", cell)):
            found.setdefault(meaning, cell)
    return [(cell, meaning) for meaning, cell in found.items()]


def _missing(results: Mapping[str, Any], shown: Collection[str], words: Words) -> list[str]:
    """A sentence each on lessons that are not finished, and on finished ones of which there is no net to show."""
    ended = results.get("lessons", {})
    open_ones = [name for name in results["config"]["lessons"] if name not in ended]
    lost = [name for name in ended if name not in shown]
    said = {"unfinished": open_ones, "lost": lost}
    return [words[name].format(lessons=", ".join(lessons)) for name, lessons in said.items() if lessons]


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


def _lessons(results: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """The table of the lessons and their curves, if they are in results.json."""
    lessons = {name: entry for name, entry in results.get("lessons", {}).items() if "test_correct" in entry}
    if not lessons:
        return None
    results = {**results, "lessons": lessons}
    notes = [*ladder.notes(results, words), *ladder.surprises(results, words, figure="")] if len(lessons) > 1 else []
    return {
        "header": ladder.header(results, words),
        "rows": ladder.rows(results, words),
        "notes": _markup("\n\n".join(notes)),
        "curves": _curves(results, words) if results["config"]["epochs"] else [],
        "gains": _gains(results, words),
    }


def _curves(results: Mapping[str, Any], words: Words) -> list[Picture]:
    pictures = []
    size = results["data"]["test"]
    accuracies = {name: fractions(entry["test_correct"], size) for name, entry in results["lessons"].items()}
    losses = {name: entry["test_loss"] for name, entry in results["lessons"].items()}
    for what, curves, scale in (("accuracy", accuracies, 100), ("loss", losses, 1)):
        ends = {name: [run[-1] for run in runs if run[-1] is not None] for name, runs in curves.items()}
        if not any(ends.values()):  # all diverged
            continue
        unit = words[f"{what}_unit"]
        last = ", ".join(f"{name} {scale * np.mean(values):.4g}{unit}" for name, values in ends.items() if values)
        pictures.append(
            drawn_picture(
                words[f"{what}_alt"].format(ends=last),
                words[f"{what}_caption"].format(band=words["band"] if len(results["config"]["seeds"]) > 1 else ""),
                curves_of_lessons,
                curves,
                what,
            )
        )
    return pictures


def _gains(results: Mapping[str, Any], words: Words) -> Picture | None:
    """What each lesson's change did, if the lesson before was run too."""
    gains = ladder_gains(results)
    if not gains:
        return None
    said = ", ".join(
        words["gain"].format(after=after, before=before, mean=np.mean(epochs[-1]), epoch=len(epochs))
        for (before, after), epochs in gains.items()
        if epochs
    )
    return drawn_picture(
        words["gains_alt"].format(gains=said),
        words["gains_caption"],
        gains_figure,
        results,
        "Each lesson minus the one before",
    )


def _net(
    net: TrainedNet, test: Examples, classes: Sequence[str], is_start_known: bool, words: Words
) -> dict[str, Any] | None:
    """What the page shows of one net; nothing where its outputs are not finite.

    Args:
      net: the net.
      test: what it is tested on.
      classes: their names.
      is_start_known: whether JAX gives the initial weights here that it gave the run.
      words: of a language.
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
        "idea": _idea(net, words),
        "summary": words["summary"].format(
            lesson=net.lesson_id,
            history=history(net, words),
            right=right.mean(),
            images=Count(test.size),
            wrong=Count((~right).sum()),
        ),
        "mistakes": _mistakes(test.images, labels, found, classes, words),
        "pictures": [
            confusion_picture(labels, answers, classes, words),
            _calibration(found.max(1), right, words),
            _first_layer(net, words),
            _weights(net, is_start_known, words),
        ],
    }


def _idea(net: TrainedNet, words: Words) -> str:
    """What the lesson changed, and where this net is not the course's."""
    differences = changes(net.state.lesson, LESSONS[net.lesson_id])
    others = ", ".join(
        words["other_setting"].format(name=name, new=new, old=old) for name, (old, new) in differences.items()
    )
    return words[f"idea_{net.lesson_id}"] + (words["others"].format(changes=others) if others else "")


def _mistakes(
    images: np.ndarray, labels: np.ndarray, found: np.ndarray, classes: Sequence[str], words: Words
) -> list[Picture]:
    """The wrongly answered digits that got the lowest probabilities, the worst first."""
    answers = found.argmax(1)
    given = found[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(given[wrong], kind="stable")][:_MOST_MISTAKES]
    pictures = []
    for index in worst:
        names = {"label": classes[labels[index]], "answer": classes[answers[index]]}
        pictures.append(
            Picture(
                alt=words["mistake_alt"].format(index=index, **names),
                caption=words["mistake"].format(probability=found[index].max(), **names),
                light=data_url(png(images[index])),
            )
        )
    return pictures


def confusion_picture(
    labels: np.ndarray, answers: np.ndarray, classes: Sequence[str] = DIGITS, words: Words = ENGLISH
) -> Picture:
    """How often each class, of `labels [images]`, was taken for each, of `answers [images]`."""
    noun = words["digit" if classes == DIGITS else "class"]
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, answers), 1)
    mistakes = np.where(np.eye(CLASSES, dtype=bool), 0, counts)
    often = [np.unravel_index(place, mistakes.shape) for place in np.argsort(-mistakes, axis=None, kind="stable")[:3]]
    pairs = ", ".join(
        words["pair"].format(label=classes[label], answer=classes[answer], count=Count(mistakes[label, answer]))
        for label, answer in often
        if mistakes[label, answer]
    )
    caption = words["confusion" if pairs else "no_confusion"].format(noun=noun, pairs=pairs)
    alt = words["confusion_alt"].format(caption=caption)
    return drawn_picture(alt, caption, confusion_figure, counts, classes)


def _calibration(confidence: np.ndarray, right: np.ndarray, words: Words) -> Picture:
    bins = calibration(confidence, right, _BINS)
    error = 100 * expected_calibration_error(bins)
    caption = words["calibration"].format(confidence=confidence.mean(), right=right.mean(), error=error, bins=_BINS)
    return drawn_picture(words["calibration_alt"].format(caption=caption), caption, calibration_figure, bins)


def _first_layer(net: TrainedNet, words: Words) -> Picture:
    kernel = np.asarray(net.state.params["fc1"]["kernel"])
    units = kernel.shape[1]
    which = words["all_units" if units <= MOST_UNITS else "largest_units"].format(units=units, most=MOST_UNITS)
    caption = words["first_layer"].format(which=which)
    return drawn_picture(caption, caption, first_layer_figure, kernel)


def _weights(net: TrainedNet, is_start_known: bool, words: Words) -> Picture:
    final = _kernels(net.state.params)
    initial = None
    if net.epoch and is_start_known:  # an imported net's never is
        initial = _kernels(init_net(net.state.lesson, jax.random.key(net.seed)).params)
    spreads = ", ".join(
        f"{layer} {words['from'].format(value=initial[layer].std()) if initial else ''}{kernel.std():.3g}"
        for layer, kernel in final.items()
    )
    when = ("both" if initial else "trained_only") if net.epoch else "as_imported"
    caption = words["weights"].format(when=words[when], spreads=spreads)
    return drawn_picture(words["weights_alt"].format(caption=caption), caption, weights_figure, initial, final)


def _kernels(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {layer: np.asarray(arrays["kernel"]) for layer, arrays in params.items() if "kernel" in arrays}
