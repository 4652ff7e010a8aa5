import json

import pytest
from helpers import script
from PIL import Image

from mnist_jax import LESSONS
from mnist_jax.lessons import lesson_to_json
from mnist_jax.studies import published
from mnist_jax.views import ladder


@pytest.mark.parametrize(
    ("split", "counts", "lessons"),
    [
        ("slides", [66, 6, 20], ["he", "adam"]),
        pytest.param("notebooks", [72, 0, 20], list(LESSONS), marks=pytest.mark.slow),
    ],
    ids=["slides", "notebooks"],
)
def test_the_ladder_from_end_to_end(run_main, toy_folder, tmp_path, split, counts, lessons):
    out_folder = tmp_path / "out"
    arguments = ["--epochs", 2, "--seeds", 2, "--split", split, *(["--lessons", *lessons] if split == "slides" else [])]
    status, out, _ = run_main(script("ladder").main, "--data", toy_folder, "--out", out_folder, *arguments)
    assert status == 0
    results = json.loads((out_folder / "results.json").read_text())
    assert [results["data"][part] for part in ("train", "validation", "test")] == counts
    assert list(results["lessons"]) == lessons
    for entry in results["lessons"].values():
        assert entry["seeds"] == [0, 1]
        assert [len(run) for run in entry["test_correct"]] == [2, 2]
    for lesson_id in lessons:
        assert lesson_id in out
        assert f"| {lesson_id} |" in (out_folder / "README.md").read_text()
    assert "ladder.png" in out
    with Image.open(out_folder / "ladder.png") as figure:
        assert min(figure.size) > 400
    assert sorted(path.name for path in out_folder.iterdir()) == [
        "README.md", "checkpoints", "gains.png", "ladder.png", "results.json", "runs.jsonl",
    ]  # fmt: skip


def test_chosen_lessons_keep_course_order(run_main, toy_folder, tmp_path):
    status, out, _ = run_main(
        script("ladder").main, "--lessons", "relu", "mlp", "--data", toy_folder, "--epochs", 1, "--out", tmp_path / "o"
    )
    assert status == 0
    assert list(json.loads((tmp_path / "o" / "results.json").read_text())["lessons"]) == ["mlp", "relu"]
    assert "gains.png" not in out
    assert "One seed cannot tell" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lessons", "cnn"], "'cnn'"),
        (["--seeds", "0"], "seed"),
        (["--epochs", "0"], "epochs"),
        (["--lessons"], ""),
        (["--checkpoint-every", "0"], "checkpoint to the next must be at least 1"),
        (["--keep-checkpoints", "0"], "checkpoints kept must be at least 1"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(script("ladder").main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def results_of(epochs=2, **lessons):
    """A results.json with these accuracies, a list for each seed."""
    entries = {
        lesson_id: {
            "diverged": [False] * len(runs),
            "test_correct": [[round(10_000 * accuracy) for accuracy in run] for run in runs],
        }
        for lesson_id, runs in lessons.items()
    }
    data = {"name": "MNIST", "split": "notebooks", "test": 10_000}
    return {"data": data, "config": {"epochs": epochs, "seeds": [0]}, "lessons": entries}


def test_rows_state_gain_and_difference():
    results = results_of(mlp=[[0.5, 0.89], [0.5, 0.91]], dropout=[[0.95], [0.6, 0.98]], he=[[0.5, 0.9], [0.5, 0.9]])
    results["lessons"]["dropout"]["diverged"] = [True, False]
    first, second, third = ladder.rows(results)
    assert first[2:] == ["90.00 ± 1.41 %", "", "59.94 %", "+30.06"]
    # Differences 6 and 7: mean 6.5, standard error 0.5, t(0.975, 1) = 12.706.
    assert second[2:4] == ["96.50 ± 2.12 % (1 diverged)", "+6.50 [+0.15, +12.85]"]
    assert third[3] == ""  # batch_norm, the lesson before he, was not run


def test_gain_that_may_be_zero_is_labelled():
    assert ladder.gain([180], [182], 200) == "-1.00"
    assert ladder.gain([180, 184, 182], [182, 182, 183], 200).endswith("not different from 0")
    assert ladder.gain([9_803, 9_804, 9_805], [9_804, 9_805, 9_803], 10_000).startswith("+0.00 [")  # no -0.00


def test_change_for_the_worse_is_reported():
    lower = [[0.1, 0.8], [0.2, 0.81], [0.15, 0.82]]
    worse = results_of(mlp=[[0.5, 0.90], [0.5, 0.91], [0.5, 0.92]], dropout=lower)
    (sentence,) = ladder.surprises(worse)
    assert sentence.startswith("`dropout` does worse than `mlp`: -10.00 points")
    assert "-35.00 at its worst, epoch 1" in sentence
    better = results_of(mlp=lower, dropout=[[0.9, 0.9]] * 3)
    assert ladder.surprises(better) == []
    assert ladder.surprises(results_of(mlp=[[0.9]], dropout=[[0.8]])) == []


def test_notebooks_are_compared_only_where_fair():
    assert "notebook" in ladder.header(results_of(mlp=[[0.5, 0.9]]))
    unfair = [results_of(mlp=[[0.5, 0.9]]), results_of(mlp=[[0.5, 0.9]]), results_of(epochs=11, mlp=[[0.9] * 11])]
    unfair[0]["data"]["name"] = "sample of MNIST"
    unfair[1]["data"]["split"] = "slides"
    for results in unfair:
        assert "notebook" not in ladder.header(results)
        assert len(ladder.rows(results)[0]) == len(ladder.header(results))
        assert "notebooks printed" in ladder.notes(results)[-1]


def test_changed_lesson_is_not_compared_with_the_notebook():
    results = results_of(adam=[[0.5, 0.9]])
    course = json.loads(json.dumps(lesson_to_json(LESSONS["adam"])))
    results["config"]["lessons"] = {"adam": course}
    assert "notebook" in ladder.header(results)
    results["config"]["lessons"] = {"adam": {**course, "hidden": [3]}}
    assert "notebook" not in ladder.header(results)
    assert ladder.rows(results)[0][1].endswith("adam 0.01; other hidden")


def test_gain_of_diverged_runs_states_its_epoch():
    worse = results_of(mlp=[[0.9, 0.91], [0.9, 0.92]], dropout=[[0.5], [0.51, 0.52]])
    (sentence,) = ladder.surprises(worse)
    assert "after epoch 1, " in sentence
    assert "at the end" not in sentence


def test_published_figures_match_the_notebooks():
    assert published.notebook("adam") == "3-5_MNIST_MLP_Dropout_ReLU_BN_HE_Adam"
    assert [published.accuracies(lesson_id)[-1] for lesson_id in LESSONS] == pytest.approx(
        [0.9033, 0.8652, 0.9740, 0.9792, 0.9727, 0.9797]
    )
    assert published.losses("mlp")[0] == pytest.approx(0.0697 * 31.949, rel=1e-4)
