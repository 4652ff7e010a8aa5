"""Whatever results.json holds: a page, or a message that says what is wrong."""

import copy
from pathlib import Path

import pytest
from helpers.report import Page, reported

from mnist_jax import UserError
from mnist_jax.cli import commands as cli
from mnist_jax.nets.trained import read_run
from mnist_jax.runs.files import RESULTS
from mnist_jax.views import report
from mnist_jax.views.report import Picture, report_page


def changed(results, *way, value):
    """A copy with another value at the end of the way; a function is called with what was there."""
    results = copy.deepcopy(results)
    place = results
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = value(place[way[-1]]) if callable(value) else value
    return results


def without(name):
    return lambda values: {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    ("way", "value", "says"),
    [
        (("data",), [], "Expected `object`, got `array` - at `$.data`"),
        (("data", "source"), "moon", "Expected `str` matching regex"),
        (("data", "test"), 0, "Expected `int` >= 1 - at `$.data.test`"),
        (("data", "train"), 55000.5, "Expected `int`, got `float` - at `$.data.train`"),
        (("config",), without("lessons"), "Object missing required field `lessons` - at `$.config`"),
        (("config",), without("epochs"), "Object missing required field `epochs` - at `$.config`"),
        (("config", "seeds"), [], "Expected `array` of length >= 1 - at `$.config.seeds`"),
        (("config", "seeds", 1), "1", "Expected `int`, got `str` - at `$.config.seeds[1]`"),
        (("data", "where"), 5, "Expected `str | null`, got `int` - at `$.data.where`"),
        (("config", "lessons"), without("he"), "No such lesson was trained - at `$.lessons.he`"),
        (("config", "lessons", "he", "hidden"), 5, "at `$.config.lessons.he`"),
        (("config", "imported"), {"file": "net"}, "Object missing required field `sha256` - at `$.config.imported`"),
        (("environment",), {}, "Object missing required field `jax` - at `$.environment`"),
        (("environment", "device"), None, "Expected `str`, got `null` - at `$.environment.device`"),
        (("environment", "commit"), 5, "Expected `str | null`, got `int` - at `$.environment.commit`"),
        (("environment", "dirty"), 1, "Expected `bool | null`, got `int` - at `$.environment.dirty`"),
        (("environment", "settings"), None, "Expected `object`, got `null` - at `$.environment.settings`"),
        (("config", "jax"), [], "Expected `object`, got `array` - at `$.config.jax`"),
        (("resumed_in",), [{"jax": "0.1"}], "Object missing required field `flax` - at `$.resumed_in[0]`"),
        (("lessons", "cnn"), {"test_correct": []}, "Object missing required field `seeds` - at `$.lessons.cnn`"),
        (("lessons", "mlp"), 1, "Expected `object`, got `int`"),
        (("lessons", "mlp"), without("diverged"), "Object missing required field `diverged` - at `$.lessons.mlp`"),
        (("lessons", "mlp", "seeds", 0), None, "Expected `int`, got `null` - at `$.lessons.mlp.seeds[0]`"),
        (("lessons", "mlp", "seeds", 0), 7, "Expected the seeds of `$.config` - at `$.lessons.mlp.seeds`"),
        (("lessons", "mlp", "seeds"), "\udcff", "surrogates not allowed - at `$.lessons.mlp`"),
        (("lessons", "adam", "test_correct"), lambda runs: runs[1:], "length 5 - at `$.lessons.adam.test_correct`"),
        (("lessons", "adam", "test_correct", 0), [], "length 10 - at `$.lessons.adam.test_correct[0]`"),
        (("lessons", "adam", "test_correct", 0, 9), -1, "`int` >= 0 - at `$.lessons.adam.test_correct[0][9]`"),
        (("lessons", "adam", "test_correct", 0, 9), 10_001, "`int` <= 10000 - at `$.lessons.adam.test_correct[0]`"),
        (("lessons", "adam", "test_loss", 1), lambda run: run * 2, "length 10 - at `$.lessons.adam.test_loss[1]`"),
        (("lessons", "adam", "test_loss", 1, 0), float("nan"), "at `$.lessons.adam.test_loss[1][0]`"),
        (("lessons", "adam", "test_loss", 1, 0), float("inf"), "at `$.lessons.adam.test_loss[1][0]`"),
        (("lessons", "adam", "test_loss", 1, 0), -0.5, "`float` >= -0.001 - at `$.lessons.adam.test_loss[1][0]`"),
        (
            ("lessons", "adam", "seconds", 2, 0),
            True,
            "got `bool` - at `$.lessons.adam.seconds[2][0]`",
        ),
        (("lessons", "adam", "seconds", 2), [], "length 10 - at `$.lessons.adam.seconds[2]`"),
        (("lessons", "adam", "diverged", 4), 0, "Expected `bool`, got `int` - at `$.lessons.adam.diverged[4]`"),
        (("resumed_in",), [1], "Expected `object`, got `int` - at `$.resumed_in[0]`"),
    ],
)
def test_wrong_value_is_refused_by_path(run_main, recorded, way, value, says):
    results, write = recorded
    run = write(changed(results, *way, value=value))
    status, _, err = run_main(cli.main, "report", run)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {run / RESULTS} is not what a run of this program writes (")
    assert says in err


def test_unknown_study_fields_are_ignored(run_main, recorded):
    results, write = recorded
    results["config"]["new"] = results["new"] = [{"a": None}]
    results["lessons"] = {"he": {"seeds": "all", "flax": [1]}}
    assert "sigmoid" not in Page(reported(run_main, write(results))).text


def tripled(old):
    return [old] * 3


def shortened(old):
    return old[:-1] if isinstance(old, list) else [old]


VALUES = [
    None, True, "", "x", "mlp", "a 'b", "\udcff", 0, 1, -1, 0.5, -0.5, 10**30, 1e300, float("nan"), float("inf"),
    [], {}, [[]], [None], ["x"], {"a": 1}, tripled, shortened,
]  # fmt: skip


def ways(values, start=()):
    """All places in results but within its lessons' fields, for which `test_lessons.py` does the same."""
    for step, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield (*start, step)
        if isinstance(value, dict | list) and start != ("config", "lessons"):
            yield from ways(value, (*start, step))


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES)
def test_any_wrong_value_gives_a_page_or_is_refused(recorded, monkeypatch, value):
    results, write = recorded
    results["lessons"] = {name: results["lessons"][name] for name in ("mlp", "dropout")}
    monkeypatch.setattr(report, "drawn_picture", lambda alt, caption, draw, *arguments: Picture(alt, caption, ""))
    pages = []
    for way in ways(results):
        try:
            found = read_run(write(changed(results, *way, value=value)))
        except UserError:
            continue
        pages.append(found)
    assert pages  # somewhere it is allowed
    for found in pages[:: 1 + len(pages) // 30]:
        assert report_page(Path(), found, [], None)


@pytest.mark.parametrize("loss", [1e-300, 3.4e38, None])
def test_extreme_values_are_drawn(recorded, loss):
    results, write = recorded
    for entry in results["lessons"].values():
        entry["test_correct"] = [[0] * 10] * 5
        entry["test_loss"] = [[loss] * 10] * 5
        entry["seconds"] = [[1e9] * 10] * 5
    page = report_page(Path(), read_run(write(results)), [], None)
    assert "0.00 ± 0.00 %" in page
