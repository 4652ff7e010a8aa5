import dataclasses
import json
import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
from helpers import BUDGET, GROUPS, run_compare

from mnist_jax import LESSONS, UserError, optimizer, schedule
from mnist_jax.cli.terminal import EpochProgress
from mnist_jax.runs.devices import Trainer
from mnist_jax.runs.journal import CHECKPOINTS, JOURNAL
from mnist_jax.runs.records import RunRecord
from mnist_jax.studies import tuning
from mnist_jax.studies.tuning import (
    TARGETS,
    Budget,
    at_chance,
    best_of,
    check_comparison,
    contestant,
    course_optimizers,
    final_summary,
    good_range,
    learning_rates,
    median_steps,
    seconds_alone,
    steps_to,
    tuning_summary,
)
from mnist_jax.views.comparison import FINAL_HEADER, TUNING_HEADER, final_rows, tuning_rows
from mnist_jax.views.figures import curves_figure


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A comparison that nothing interrupted."""
    return run_compare(tmp_path_factory.mktemp("whole"), dataset)


def without_seconds(tree):
    if isinstance(tree, dict):
        return {key: without_seconds(value) for key, value in tree.items() if "seconds" not in key}
    return tree


def test_rates_are_evenly_spread_and_round():
    assert learning_rates(0.001, 1, 4) == (0.001, 0.01, 0.1, 1.0)
    assert learning_rates(2.154e-4, 1.0, 12)[2:6] == (0.001, 0.00215, 0.00464, 0.01)


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [(0, 1, 3), (1, 1, 3), (0.1, 0.01, 3), (0.1, 1, 1), (1, float("inf"), 3), (0.1, 0.101, 12), (0.1, 1, 10**9)],
)
def test_invalid_rates_are_refused(low, high, count):
    with pytest.raises(UserError, match="learning rates"):
        learning_rates(low, high, count)


def test_contestant_matches_optax_except_where_stated():
    made = contestant("sgd", (0.1, 1.0), momentum=0.9)
    assert made.label == "sgd, momentum 0.9"
    assert made.optimizer == optimizer("sgd", 0.1, momentum=0.9)
    with pytest.raises(UserError, match="'adman'"):
        contestant("adman", (0.1,))
    with pytest.raises(UserError, match="above 0"):
        contestant("adam", (0.1, -1.0))


def test_course_optimizers():
    assert course_optimizers() == {"sgd": optimizer("sgd", 0.01, momentum=0.5), "adam": optimizer("adam", 0.01)}


@pytest.mark.parametrize(
    ("correct", "images", "expected"),
    [
        ([100, 970, 980, 976, 500], 1000, (2, 3)),
        ([980, 980, 980], 1000, (0, 2)),
        ([979, 500, 980], 1000, (2, 2)),  # the first is good too, but not next to the best
        ([980], 1000, (0, 0)),
        ([4_875, 4_900, 4_874], 5_000, (0, 1)),  # exactly 25 of 5,000 below the best is still good
        ([14_624, 14_700, 14_625], 15_000, (1, 2)),
        ([9_700, 0, 9_700], 10_000, (0, 0)),  # of equals the first is the best
        ([0, 9_700, 9_700, 0, 9_700], 10_000, (1, 2)),
    ],
)
def test_the_good_range_is_the_unbroken_one_around_the_best(correct, images, expected):
    assert good_range(correct, images) == expected


@pytest.mark.parametrize("images", [500, 4_999, 5_000, 10_000])
def test_rate_exactly_at_the_limit_is_good(images):
    limit = 5 * images // 1000
    for best in range(limit, images + 1):
        assert good_range([best - limit, best, best - limit - 1], images) == (0, 1)


@pytest.mark.parametrize(
    ("target", "expected"),
    [(50, 2), (80, 4), (90, 5), (95, 5 + 2), (96, 5 + 5), (99, None)],
)
def test_steps_are_counted_to_the_first_sufficient_test(target, expected):
    # Five steps an epoch, tested after 2, 4 and at the end.
    assert steps_to(target, [[50, 80], [95, 70]], [90, 96], 2, 5) == expected


def record(seed, validation_correct, test_correct, *, tests=None, diverged=False):
    losses = [0.1] * len(test_correct)
    return RunRecord(
        seed=seed, test_correct=test_correct, test_loss=losses, train_loss=losses, seconds=losses,
        validation_correct=validation_correct, tests=tests, diverged=diverged,
    )  # fmt: skip


@pytest.mark.parametrize("images", [20, 500, 7_777, 10_000])
@pytest.mark.parametrize("target", TARGETS)
def test_an_exact_hit_of_a_target_counts(target, images):
    needed = math.ceil(Fraction(target * images, 100))
    missed, hit = ([record(7, [images], [images], tests=[[0, count]])] for count in (needed - 1, needed))
    assert final_summary(hit, images, 30, 10)["steps_to"][str(target)] == [20]
    assert final_summary(missed, images, 30, 10)["steps_to"][str(target)] == [30]


def entries(accuracies, *, diverged=()):
    """Runs that end with these fractions of 100 images right."""
    return [
        record(seed, [0, round(100 * accuracy)], [100 - round(100 * accuracy)], diverged=(rate, seed) in diverged)
        for rate, row in accuracies.items()
        for seed, accuracy in enumerate(row)
    ]


def test_the_choice_is_the_highest_mean_on_validation_images():
    accuracies = {0.01: [0.90, 0.92], 0.1: [0.97, 0.99], 1.0: [1.00, 0.10], 10.0: [0.2, 0.21]}
    found = tuning_summary(entries(accuracies, diverged={(1.0, 1)}), contestant("sgd", tuple(accuracies)), 100)
    assert found["learning_rate"] == 0.1
    assert found["validation_correct"] == [[90, 92], [97, 99], [100, 10], [20, 21]]
    assert found["diverged"] == [[False, False], [False, False], [False, True], [False, False]]
    assert not found["at_edge"]
    (cells,) = tuning_rows(tuned(sgd=found))
    assert cells == ["sgd", "0.1", "98.00%", "0.1 to 0.1", "0.0", "1 of 8 runs", "1 of 8 runs"]


def tuned(**tuning):
    return {"data": {"validation": 100, "test": 100}, "tuning": tuning}


def test_choice_at_the_grid_edge_is_flagged():
    found = tuning_summary(entries({0.1: [0.5], 1.0: [0.9]}), contestant("sgd", (0.1, 1.0)), 100)
    assert "edge of the grid" in tuning_rows(tuned(sgd=found))[0][1]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_best_of_each_group_is_retrained(order):
    group = [contestant("sgd", (0.1, 1.0), momentum=momentum) for momentum in (0.5, 0.9)]
    accuracies = [{0.1: [0.90], 1.0: [0.10]}, {0.1: [0.10], 1.0: [0.91]}]
    tuning = {
        entrant.label: tuning_summary(entries(found), entrant, 100)
        for entrant, found in zip(group, accuracies, strict=True)
    }
    assert best_of([group[place] for place in order], tuning) == group[1]


@pytest.mark.parametrize(
    ("correct", "diverged", "expected"),
    [([11, 13, 20, 21, 98], [False] * 5, 3), ([11, 13], [True, False], 1), ([], [], 0)],
)
def test_runs_at_chance_end_finite_and_below_twice_guessing(correct, diverged, expected):
    assert at_chance(correct, diverged, 100) == expected


def test_the_timed_program_is_compiled_as_the_runs_are(dataset, tmp_path, monkeypatch):
    run_compare(tmp_path, dataset)  # the same again finds all runs in the journal, but no timing
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(line for line in lines if "timing" not in line))
    asked = []
    compile_epoch = Trainer.compile
    monkeypatch.setattr(Trainer, "compile", lambda self, states: asked.append(self) or compile_epoch(self, states))
    monkeypatch.setattr("mnist_jax.runs.loop._train_epoch", None)
    run_compare(tmp_path, dataset)
    assert len(asked) == len(GROUPS)


def test_the_first_epoch_of_a_timed_program_does_not_count(dataset, monkeypatch):
    """By a clock that stands still but for what each epoch computes."""
    now, epochs = 0.0, []

    class Timed:
        def __init__(self, lesson, *_):
            self.optimizer = lesson.optimizer.name

        def start(self, _):
            return []

        def epoch(self, states):
            epochs.append(self.optimizer)
            return [*states, None], self, None

        def block_until_ready(self):
            nonlocal now
            now += {"sgd": [100, 1, 5, 3], "adam": [200, 7, 6, 5]}[self.optimizer][epochs.count(self.optimizer) - 1]

    monkeypatch.setattr(tuning, "Trainer", Timed)
    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: now))
    lessons = {"a": LESSONS["mlp"], "b": LESSONS["adam"]}
    assert seconds_alone(lessons, dataset, repeats=3) == {"a": [1, 5, 3], "b": [7, 6, 5]}
    assert epochs == ["sgd", "adam"] * 4  # in turn


@pytest.mark.parametrize(("tuning", "final"), [(0, 2), (1, 1), (10**9, 2), (1, 10**9)])
def test_invalid_comparison_seeds_are_refused(tuning, final):
    with pytest.raises(UserError, match="seeds"):
        Budget.of_counts(tuning, final)


def test_final_seeds_are_fresh():
    budget = Budget.of_counts(3, 10)
    assert not set(budget.tuning_seeds) & set(budget.final_seeds)


def test_every_contestant_is_checked_for_the_length_of_its_runs(dataset):
    scheduled = contestant("adam", (0.1,), schedule=schedule("warmup_cosine_decay", warmup_steps=5))
    groups = {**GROUPS, scheduled.label: [scheduled]}
    check_comparison(groups, LESSONS["mlp"], dataset, BUDGET, epochs=2)
    with pytest.raises(UserError, match="does not fit a run of 3 steps"):
        check_comparison(groups, LESSONS["mlp"], dataset, BUDGET, epochs=1)


def test_two_contestants_of_one_label_are_refused(dataset):
    groups = {**GROUPS, "again": [contestant("adam", (0.1,))]}
    with pytest.raises(UserError, match=r"two different optimizers, not .*; adam; adam"):
        check_comparison(groups, LESSONS["mlp"], dataset, BUDGET, epochs=1)


def test_tuning_needs_validation_images(dataset):
    with pytest.raises(UserError, match="validation images"):
        check_comparison(GROUPS, LESSONS["mlp"], dataclasses.replace(dataset, validation=None), BUDGET, epochs=2)


@pytest.mark.parametrize(
    "shown", [pytest.param(1, marks=pytest.mark.slow), 9, pytest.param(17, marks=pytest.mark.slow)]
)
def test_interrupted_study_continues_where_it_stopped(whole, dataset, tmp_path, monkeypatch, shown):
    show, count = EpochProgress.show, 0

    def interrupted(self, *args, **rest):
        nonlocal count
        count += 1
        if count == shown:
            raise KeyboardInterrupt
        show(self, *args, **rest)

    monkeypatch.setattr(EpochProgress, "show", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_compare(tmp_path / "parts", dataset)
    monkeypatch.undo()
    before = (tmp_path / "parts" / JOURNAL).read_text()
    left = []

    def progress(*rest, runs, **more):
        left.append(runs)
        return EpochProgress(*rest, runs=runs, **more)

    monkeypatch.setattr("mnist_jax.cli.study.EpochProgress", progress)
    assert without_seconds(run_compare(tmp_path / "parts", dataset)) == without_seconds(whole)
    after = (tmp_path / "parts" / JOURNAL).read_text()
    assert after.startswith(before)
    assert left == [10 - before.count('"seed"')]
    # 6 tried settings with 1 seed, 2 chosen ones with 2: 10 runs, beside the header and the timing.
    runs = [json.loads(line) for line in after.splitlines()]
    assert len(runs) == 12
    parts = {(run["stage"], run.get("optimizer"), run.get("learning_rate"), run.get("seed")) for run in runs[1:]}
    assert len(parts) == 11


def test_groups_of_another_device_count_are_removed_at_the_end(dataset, tmp_path, monkeypatch, one_device):
    def interrupted(*_, **rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochProgress, "show", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_compare(tmp_path, dataset)
    assert len(list((tmp_path / CHECKPOINTS).iterdir())) == 1
    one_device()
    run_compare(tmp_path, dataset)
    assert not (tmp_path / CHECKPOINTS).exists()


def test_finished_comparison_is_redrawn_without_training(dataset, tmp_path, monkeypatch):
    first = run_compare(tmp_path, dataset)
    monkeypatch.setattr("mnist_jax.runs.loop._train_epoch", None)
    assert run_compare(tmp_path, dataset) == first
    results = {**first, "data": dataset.describe(), "config": {"steps_per_epoch": 3}}
    assert [len(row) for row in tuning_rows(results)] == [len(TUNING_HEADER)] * 3
    rows = final_rows(results)
    assert [len(row) for row in rows] == [len(FINAL_HEADER)] * 2
    best = max(GROUPS["sgd"], key=lambda entrant: max(map(sum, first["tuning"][entrant.label]["validation_correct"])))
    assert [row[0] for row in rows] == [best.label, "adam"]


def test_final_runs_are_paired(dataset, tmp_path):
    """A seed means the same weights, order and dropout for every optimizer: without a step there is no difference."""
    tiny = {name: [contestant(name, (1e-37, 2e-37))] for name in ("sgd", "adagrad")}
    results = run_compare(tmp_path, dataset, tiny, LESSONS["dropout"])
    sgd, adagrad = (results["final"][label] for label in ("sgd", "adagrad"))
    assert sgd["test_loss"] == adagrad["test_loss"]
    assert sgd["train_loss"] == adagrad["train_loss"]
    assert sgd["train_loss"][0] != sgd["train_loss"][1]


def test_diverged_runs_are_shown(dataset, tmp_path):
    groups = {"kept": [contestant("sgd", (0.01, 1e30))], "lost": [contestant("adam", (1e30, 2e30))]}
    results = run_compare(tmp_path, dataset, groups, LESSONS["relu"])
    assert results["tuning"]["sgd"]["diverged"] == [[False], [True]]
    results = {**results, "data": dataset.describe(), "config": {"steps_per_epoch": 3}}
    assert [row[-2] for row in tuning_rows(results)] == ["1 of 2 runs", "2 of 2 runs"]
    kept, lost = final_rows(results)
    assert "diverged" not in kept[2]
    assert lost[2].endswith("(2 diverged)")
    assert lost[3] == "not finite"
    assert curves_figure(results, "title")


@pytest.mark.parametrize(
    ("steps", "median"), [([250, 750], 500), ([250, 500, None], 500), ([250, None, None], math.inf), ([None], math.inf)]
)
def test_run_never_reaching_the_target_counts_as_slowest(steps, median):
    assert median_steps(steps) == median
