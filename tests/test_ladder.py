import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

from mnist_jax import LESSONS, published

ROOT = Path(__file__).parents[1]


def script(name):
    """A script under experiments/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("split", "counts"), [("slides", [65, 5, 20]), ("notebooks", [70, 0, 20])])
def test_the_ladder_from_end_to_end(run_main, toy_folder, tmp_path, split, counts):
    out_folder = tmp_path / "out"
    status, out, _ = run_main(
        script("ladder").main, "--data", toy_folder, "--epochs", 2, "--seeds", 2, "--split", split, "--out", out_folder
    )
    assert status == 0
    results = json.loads((out_folder / "results.json").read_text())
    assert [results["data"][part] for part in ("train", "validation", "test")] == counts
    assert list(results["lessons"]) == list(LESSONS)
    for entry in results["lessons"].values():
        assert entry["seeds"] == [0, 1]
        assert [len(run) for run in entry["test_accuracy"]] == [2, 2]
    for lesson_id in LESSONS:
        assert lesson_id in out
        assert f"| {lesson_id} |" in (out_folder / "table.md").read_text()
    assert "ladder.png" in out
    with Image.open(out_folder / "ladder.png") as figure:
        assert min(figure.size) > 400
    assert sorted(path.name for path in out_folder.iterdir()) == ["ladder.png", "results.json", "table.md"]


def test_some_lessons_in_the_course_s_order(run_main, toy_folder, tmp_path):
    status, _, _ = run_main(
        script("ladder").main, "--lessons", "relu", "mlp", "--data", toy_folder, "--epochs", 1, "--out", tmp_path / "o"
    )
    assert status == 0
    assert list(json.loads((tmp_path / "o" / "results.json").read_text())["lessons"]) == ["mlp", "relu"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--lessons", "cnn"], "'cnn'"), (["--seeds", "0"], "seed"), (["--epochs", "0"], "epochs"), (["--lessons"], "")],
)
def test_bad_input_gets_status_2_and_leaves_nothing(run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(script("ladder").main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_rows_state_gain_and_difference():
    entry = {"diverged": [False, False], "test_accuracy": [[0.5, 0.89], [0.5, 0.91]]}
    better = {"diverged": [True, False], "test_accuracy": [[0.95], [0.6, 0.97]]}
    rows = script("ladder").ladder_rows({"mlp": entry, "dropout": better, "he": entry}, ["mlp"])
    assert rows[0][2:] == ["90.00 ± 1.41 %", "", "59.94 %", "+30.06"]
    assert rows[1][2:] == ["96.00 ± 1.41 % (1 diverged)", "+6.00", "", ""]
    assert rows[2][3] == ""  # batch_norm, the lesson before he, was not run


def test_published_figures_are_the_notebooks_():
    assert published.notebook("adam") == "3-5_MNIST_MLP_Dropout_ReLU_BN_HE_Adam"
    assert [published.accuracies(lesson_id)[-1] for lesson_id in LESSONS] == pytest.approx(
        [0.9033, 0.8652, 0.9740, 0.9792, 0.9727, 0.9797]
    )
    assert published.losses("mlp")[0] == pytest.approx(0.0697 * 31.949, rel=1e-4)
