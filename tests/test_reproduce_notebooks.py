import json

import numpy as np
import pytest
from scipy import stats
from test_ladder import script

from mnist_jax import LESSONS, published


@pytest.fixture(scope="module")
def reproduce():
    return script("reproduce_notebooks")


def fake_lessons(shift=0.0, seeds=10):
    """Ten runs a lesson around the published curves."""
    rng = np.random.default_rng(0)
    lessons = {}
    for lesson_id in LESSONS:
        accuracy, loss = (np.array(curve(lesson_id)) for curve in (published.accuracies, published.losses))
        lessons[lesson_id] = {
            "test_correct": (10_000 * (accuracy + shift + rng.normal(0, 0.001, (seeds, 10)))).round().tolist(),
            "test_loss": (loss + rng.normal(0, 0.01, (seeds, 10))).tolist(),
        }
    return lessons


def test_z_is_student_s_for_one_more_draw(reproduce):
    rng = np.random.default_rng(1)
    draws = rng.normal(5, 2, (4000, 11))
    z = [reproduce.z_score(row[0], row[1:], 0.0) for row in draws]
    assert stats.kstest(z, stats.t(9).cdf).pvalue > 0.01


def test_rounding_widens_the_spread(reproduce):
    ours = [1.0, 1.1, 0.9]
    exact, rounded = (reproduce.z_score(2.0, ours, step) for step in (0.0, 1.0))
    assert exact == pytest.approx(1 / (0.1 * (4 / 3) ** 0.5))
    assert rounded == pytest.approx(1 / (0.01 * 4 / 3 + 1 / 12) ** 0.5)


def test_close_runs_are_reproduced_and_a_shift_is_noticed(reproduce):
    points = reproduce.compare(fake_lessons(), 10_000)
    assert len(points) == 120
    assert not any(point["outside"] for point in points)
    assert reproduce.verdict(points).startswith("Reproduced: none of the 120")
    lessons = fake_lessons()
    lessons["he"] = fake_lessons(shift=0.02)["he"]
    points = reproduce.compare(lessons, 10_000)
    outside = [(point["lesson"], point["what"]) for point in points if point["outside"]]
    assert outside == [("he", "accuracy")] * 10
    words = reproduce.verdict(points)
    assert "he accuracy epoch 1" in words
    assert "Reproduced: adam, batch_norm, dropout, mlp, relu" in words


def test_from_end_to_end_on_tiny_data(reproduce, run_main, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "comparable", lambda *_: True)
    status, out, err = run_main(reproduce.main, "--data", toy_folder, "--seeds", 3, "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["comparison"]) == 120
    assert reproduce.verdict(results["comparison"]) in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"checkpoints", "runs.jsonl", "results.json", "table.md", "reproduce_notebooks.png"}


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--seeds", "2"], "at least 3 seeds"), ([], "used all of MNIST, not unrecognised")]
)
def test_what_cannot_be_compared_is_refused(reproduce, run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(reproduce.main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in err
    assert not (tmp_path / "out").exists()
