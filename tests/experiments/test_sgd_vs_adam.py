import json

import pytest
from helpers import QUICK_ENOUGH, script
from helpers.command_lines import message
from PIL import Image

from mnist_jax.runs.journal import JOURNAL


def test_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path):
    arguments = ["--data", toy_folder, "--out", tmp_path / "out", *QUICK_ENOUGH]
    status, out, _ = run_main(script("sgd_vs_adam").main, *arguments)
    assert status == 0
    files = ["README.md", "curves.png", "learning_rates.png", "results.json", JOURNAL]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    for name in files[1:3]:
        with Image.open(tmp_path / "out" / name) as figure:
            assert min(figure.size) > 400
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["tuning"]) == {"sgd, momentum 0.9", "adam"}
    assert set(results["final"]) == {"sgd", "adam"}
    for found in results["tuning"].values():
        assert [len(row) for row in found["validation_correct"]] == [1] * len(found["learning_rates"]) == [1, 1]
    for found in results["final"].values():
        assert found["learning_rate"] == results["tuning"][found["contestant"]]["learning_rate"]
        assert [len(run) for run in found["test_correct"]] == [2, 2]
    gap = results["paired_difference"]
    assert gap["low"] <= gap["mean"] <= gap["high"]
    ends = {label: [run[-1] for run in found["test_correct"]] for label, found in results["final"].items()}
    pairs = zip(ends["adam"], ends["sgd"], strict=True)
    assert gap["mean"] == pytest.approx(sum(adam - sgd for adam, sgd in pairs) / 2 / 20)
    table = (tmp_path / "out" / "README.md").read_text()
    assert "| adam |" in table
    assert "QUICK" not in table + out
    # Of each of the 8 runs a line, at its end.
    assert (out.count("  epoch  1  "), out.count("  epoch  2  ")) == (0, 8)
    rate = f"{results['final']['adam']['learning_rate']:g}"
    for stage, seed in (("tuning", 0), ("final", 1), ("final", 2)):
        assert f"{stage}  adam, learning rate {rate}  seed {seed}  epoch  2" in out
    # Again: nothing is trained, and the same comes out.
    journal = (tmp_path / "out" / JOURNAL).read_bytes()
    assert run_main(script("sgd_vs_adam").main, *arguments, "--resume")[0] == 0
    assert (tmp_path / "out" / JOURNAL).read_bytes() == journal
    assert (tmp_path / "out" / "README.md").read_text() == table
    # Another study in the same folder is refused.
    for option, value, says in (("epochs", 3, "2, not 3"), ("side-by-side", 2, "None, not 2")):
        status, _, err = run_main(script("sgd_vs_adam").main, *arguments, f"--{option}", value, "--resume")
        assert (status, err.count("\n")) == (2, 1)
        assert f"config.{option.replace('-', '_')} is {says}" in err


def gap(mean, low, high):
    return {"second": "adam", "first": "sgd, momentum 0.9", "mean": mean, "low": low, "high": high}


def results_of(tuned, untuned=None):
    sgd = {"95": [250, 500, 500], "97": [None, 750, 500], "98": [None, None, 750]}
    adam = {"95": [500, 750, 750], "97": [500, 500, 500], "98": [1000, 1500, 500]}
    return {
        "config": {"epochs": 2, "steps_per_epoch": 1000, "test_every": 250},
        "final": {
            "sgd": {"contestant": "sgd, momentum 0.9", "learning_rate": 0.1, "steps_to": sgd},
            "adam": {"contestant": "adam", "learning_rate": 0.001, "steps_to": adam},
        },
        "paired_difference": tuned,
        **({"paired_difference_of_the_course": untuned} if untuned else {}),
    }


@pytest.mark.parametrize(
    ("tuned", "untuned", "both"),
    [
        (gap(0.002, 0.001, 0.003), gap(0.0075, 0.006, 0.009), True),
        (gap(0.0015, -0.001, 0.004), gap(0.0075, 0.006, 0.009), False),
        (gap(-0.002, -0.003, -0.001), gap(0.0075, 0.006, 0.009), False),
        (gap(0.002, 0.001, 0.003), gap(0.0075, -0.006, 0.019), False),
        (gap(0.002, 0.001, 0.003), None, False),
    ],
)
def test_better_requires_both_intervals(tuned, untuned, both):
    sentences = script("sgd_vs_adam").verdict(results_of(tuned, untuned))
    assert ("So on this net adam is better, and not only better tuned." in sentences) == both


def test_course_settings_are_grid_points():
    runs = script("sgd_vs_adam").course_runs
    found = {"learning_rates": [0.001, 0.01], "test_correct": [[1, 2], [3, 4]]}
    tuning = {"sgd": found, "sgd, momentum 0.5": found}
    assert runs(tuning, "sgd") == {"contestant": "sgd, momentum 0.5 at 0.01", "test_correct": [[3], [4]]}
    assert runs(tuning, "adam") is None
    assert runs(tuning, "lion") is None
    assert runs({"sgd, momentum 0.5": {**found, "learning_rates": [0.001, 0.1]}}, "sgd") is None
    assert runs({"sgd, momentum 0.5": {**found, "test_correct": [[1], [3]]}}, "sgd") is None


def test_verdict_text():
    sgd_vs_adam = script("sgd_vs_adam")
    assert sgd_vs_adam.verdict(results_of(gap(-0.002, -0.003, -0.001))) == [
        "Each at its own learning rate (sgd, momentum 0.9: 0.1; adam: 0.001), adam is worse than sgd, momentum 0.9 by "
        "-0.20 points [-0.30, -0.10].",
        # Each pair 250 apart, which is how far apart tests are: standard error 250 / 18^(1/2) = 59.
        "Steps to 95 %: adam is not shown to need more or fewer than sgd (+250 [-4, +504]).",
        # -1,500, -250, 0: mean -583, standard error 464, with the rounding 468, t(0.975, 2) = 4.303.
        "Steps to 97 %: adam is not shown to need more or fewer than sgd (-583 [-2,596, +1,429]).",
        "Steps to 98 %: reached by 1 of 3 runs of sgd and reached by 3 of 3 runs of adam.",
        "Each interval is at 95 % by itself, over seeds, on these test images.",
    ]
    assert "is not shown to be better or worse than" in sgd_vs_adam.comparison(gap(0.001, -0.001, 0.003))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ([1250, 1500, 1750], "adam needs more than sgd"),
        ([600, 520, 690], "is not shown to need"),  # excludes 0, but is less than two tests apart
        ([1500, None, 500], "is not shown to need"),
    ],
)
def test_step_difference_must_exceed_interval_and_resolution(second, says):
    words = script("sgd_vs_adam").compared_steps(("sgd", "adam"), [500, 400, 600], second, 2000, 250)
    assert says in words


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("reached", "says"),
    [
        ([500, 400, None, None], "is not shown to need more or fewer"),  # half of the runs is enough
        ([500, None, None, None], "reached by 1 of 4 runs"),
        ([None, None, None, None], "reached by 0 of 4 runs"),
    ],
)
def test_steps_are_compared_if_half_of_the_runs_reach_the_target(reached, says, swapped):
    runs = [reached, [500, 400, 600, 700]][:: -1 if swapped else 1]
    assert says in script("sgd_vs_adam").compared_steps(("sgd", "adam"), *runs, 2000, 250)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--optimizers", "sgd"], "two different optimizers"),
        (["--optimizers", "adam", "adam"], "two different optimizers"),
        (["--optimizers", "sgd", "adman"], "'adman'"),
        (["--lesson", "cnn"], "'cnn'"),
        (["--momenta", "1"], "below 1"),
        (["--momenta", "0.9", "0.9"], "each once"),
        (["--out", "x" * 300], "cannot be written"),
        (["--rates", "1"], "2 to 1,000 learning rates"),
        (["--rates", "1000000000"], "2 to 1,000 learning rates"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--final-seeds", "1"], "seeds"),
        (["--side-by-side", "0"], "at a time"),
        (["--checkpoint-every", "0"], "at least 1"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(run_main, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(script("sgd_vs_adam").main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert says in message(err)
    assert not (tmp_path / "out").exists()
