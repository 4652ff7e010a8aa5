import io
import json
from itertools import product

import numpy as np
import pytest
from helpers import ROOT, script
from PIL import Image
from scipy import stats

from mnist_jax import LESSONS
from mnist_jax.studies import published
from mnist_jax.studies.reproduction import LEVEL, compared

RECORDED = ROOT / "experiments" / "results" / "reproduce_notebooks"


@pytest.fixture(scope="module")
def reproduce():
    return script("reproduce_notebooks")


@pytest.fixture(scope="module")
def recorded():
    return json.loads((RECORDED / "results.json").read_text())


def test_recorded_numbers_follow_from_the_recorded_runs(recorded):
    found = compared({name: recorded[name] for name in recorded if not name.startswith("by_")})
    found = json.loads(json.dumps(found))
    assert set(found) == set(recorded)
    assert_same(found["by_point"], recorded["by_point"])
    assert_same(found["by_curve"], recorded["by_curve"])


def test_the_recorded_figure_follows_from_the_recorded_runs(reproduce, recorded):
    drawn = Image.open(io.BytesIO(reproduce.report(recorded)["reproduce_notebooks.png"]))
    shown = Image.open(RECORDED / "reproduce_notebooks.png")
    difference = np.abs(np.asarray(drawn.convert("L"), float) - np.asarray(shown.convert("L"), float))
    assert difference.mean() < 0.1  # of 255; text is drawn a little otherwise elsewhere


def assert_same(ours, theirs):
    """Equal, numbers but for rounding."""
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == (pytest.approx(theirs, rel=1e-6, abs=1e-15) if isinstance(ours, float) else theirs)


def test_recorded_curves_reject_all_but_one_other_lesson(recorded):
    assert recorded["config"]["seeds"] == list(range(30))
    p = recorded["by_curve"]["p"]
    passed = [(row, column) for row, column in product(LESSONS, LESSONS) if p[row][column] >= LEVEL / 6]
    assert passed == sorted([*zip(LESSONS, LESSONS, strict=True), ("batch_norm", "adam")], key=passed.index)


def test_recorded_curves_are_rejected_at_most_as_stated(recorded):
    p = np.concatenate(list(recorded["by_curve"]["leave_one_out"].values()))
    assert p.size == 180
    assert (p < LEVEL).sum() <= stats.binom.ppf(0.999, p.size, LEVEL)


@pytest.mark.slow
def test_from_end_to_end_on_tiny_data(reproduce, run_main, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "comparable", lambda *_: True)
    status, out, err = run_main(reproduce.main, "--data", toy_folder, "--seeds", 3, "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["by_point"]["points"]) == 120
    assert reproduce.point_verdict(results["by_point"]) in out
    assert "needs at least 10 seeds" in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"checkpoints", "runs.jsonl", "results.json", "README.md", "reproduce_notebooks.png"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--seeds", "2"], "at least 3 seeds"), ([], "used all of MNIST, and these digits are not known")],
)
def test_invalid_comparisons_are_refused(reproduce, run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(reproduce.main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in err
    assert not (tmp_path / "out").exists()
