import dataclasses
import itertools
import json

import numpy as np
import pytest
from helpers import BUDGET, COMPARED, run_compare

from mnist_jax import LESSONS, UserError, schedule
from mnist_jax.cli.terminal import EpochProgress
from mnist_jax.runs.journal import CHECKPOINTS, JOURNAL
from mnist_jax.runs.records import RunRecord, pack_bits, unpack_bits
from mnist_jax.studies.search import (
    CONFIRMATION_SEEDS,
    FIRST_FINAL_SEED,
    Budget,
    check_comparison,
    compare,
    score,
)
from mnist_jax.studies.spaces import MOST_TRIALS, SPACES, space_of

# --- what a search does, without training ---


class Trained:
    """Trains nothing: a run of trial n has as many validation images right as `scores` says, seed by seed."""

    def __init__(self, settings, scores, *, tests=5, test_loss=1.0):
        self.numbers = {tuple(space_numbers(setting)): number for number, setting in enumerate(settings)}
        self.scores, self.tests, self.test_loss, self.calls = scores, tests, test_loss, []

    def __call__(self, part, lesson, runs, test_every=None):
        self.calls.append((dict(part), lesson, list(runs), test_every))
        return [self.record(run, test_every) for run in runs]

    def record(self, run, test_every):
        number = self.numbers[tuple(value for _, value in run.hyperparameters)]
        correct = self.scores(number, run.seed)
        # More after the first epoch, in another order: the last epoch counts.
        return RunRecord(
            seed=run.seed, test_correct=[0, self.tests], test_loss=[1.0, self.test_loss],
            train_loss=[1.0, 1.0 if correct >= 0 else None],
            validation_correct=[1000 - 13 * number % 97, abs(correct)], validation_loss=[1.0, 0.5], seconds=[1.0, 1.0],
            tests=[[1], [2]] if test_every else None, right=pack_bits(np.ones(20, bool)) if test_every else None,
            diverged=correct < 0 or self.test_loss is None,
        )  # fmt: skip


def space_numbers(setting, space=SPACES["adam"]):
    return [value for _, value in space.numbers(setting)]


def searched(dataset, scores, *, trials=8, **options):
    train = Trained(SPACES["adam"].trials(dataset.name, "he", trials), scores, **options)
    budget = Budget.of_counts(trials, 3)
    found = compare([SPACES["adam"]], {"he": LESSONS["he"]}, dataset, budget, 2, train)
    return found["he"]["adam"], train, budget


def test_each_trial_has_its_own_seed_and_only_final_runs_are_tested_on_the_way(dataset):
    entry, train, budget = searched(dataset, lambda number, seed: number)
    assert [(trial["number"], trial["seed"]) for trial in entry["trials"]] == [(n, n) for n in range(9)]
    assert [trial["settings"] for trial in entry["trials"]] == SPACES["adam"].trials(dataset.name, "he", 8)
    assert [found["number"] for found in entry["confirmation"]] == [8, 7, 6, 5]
    assert {part["stage"]: test_every for part, _, _, test_every in train.calls} == {
        "trials": None, "confirmation": None, "final": 250,
    }  # fmt: skip
    seeds = {}
    for part, _, runs, _ in train.calls:
        seeds.setdefault(part["stage"], []).extend(run.seed for run in runs)
    assert {stage: sorted(found) for stage, found in seeds.items()} == {
        "trials": [*range(9)],
        "confirmation": sorted([*CONFIRMATION_SEEDS] * 4),
        "final": sorted([2000, 2001, 2002] * 2),
    }
    assert sum(len(runs) for _, _, runs, _ in train.calls) == budget.runs(SPACES["adam"])
    assert entry["final"]["seeds"] == entry["course"]["seeds"] == [2000, 2001, 2002]
    finals = {run.hyperparameters for part, _, runs, _ in train.calls if part["stage"] == "final" for run in runs}
    assert finals == {SPACES["adam"].numbers(entry["trials"][number]["settings"]) for number in (0, entry["chosen"])}


def test_runs_of_the_same_choices_are_trained_by_one_program(dataset):
    _, train, _ = searched(dataset, lambda number, seed: number)
    for stage, programs in (("trials", 2), ("final", 2)):
        calls = [(part, lesson) for part, lesson, _, _ in train.calls if part["stage"] == stage]
        assert len(calls) == len({lesson for _, lesson in calls}) == len({part["variant"] for part, _ in calls})
        assert len(calls) <= programs
    for part, lesson, _, _ in train.calls:
        assert (lesson.optimizer.schedule is None) == (part["variant"] == "schedule constant")
        assert dataclasses.replace(lesson, optimizer=LESSONS["he"].optimizer) == LESSONS["he"]


def test_fresh_seeds_choose_among_the_best_trials(dataset):
    """Trial 8 was lucky with its own seed; trial 1 was not, and is not among the best four."""

    def scores(number, seed):
        lucky = {8: 100, 7: 90, 6: 80, 5: 70, 1: 60}.get(number, number)
        fresh = {8: 50, 7: 60, 6: 65, 5: 64, 1: 99}.get(number, 0)
        return lucky if seed < 1000 else fresh

    entry, _, _ = searched(dataset, scores)
    assert entry["chosen"] == 6
    assert entry["confirmation"][2] == {
        "number": 6, "validation_correct": [65] * 3, "validation_loss": [0.5] * 3, "diverged": [False] * 3,
    }  # fmt: skip


def test_test_images_have_no_part_in_the_choice(dataset):
    def scores(number, seed):
        return (7 * number + seed) % 11

    entry, *_ = searched(dataset, scores, tests=0)
    for others in ({"tests": 20}, {"test_loss": None}):
        other, *_ = searched(dataset, scores, **others)
        assert other["chosen"] == entry["chosen"]
        assert [trial["diverged"] for trial in other["trials"]] == [False] * 9


def test_the_courses_setting_is_trained_once(dataset):
    """Where it is chosen, its final runs are those."""
    entry, train, budget = searched(dataset, lambda number, seed: 100 - number)
    assert entry["chosen"] == 0
    assert "course" not in entry
    assert sum(len(runs) for _, _, runs, _ in train.calls) == budget.runs(SPACES["adam"]) - 3
    assert Budget.of_counts(8, 3).runs(SPACES["adamw"]) == 9 + 12 + 3  # the course has none
    assert Budget.of_counts(8, 3).runs(space_of("adam", b1=0.5)) == 9 + 12 + 3


def test_a_diverged_trial_is_never_chosen_over_one_that_is_not(dataset):
    entry, _, _ = searched(dataset, lambda number, seed: -100 if number else 1)
    assert entry["chosen"] == 0
    assert [trial["diverged"] for trial in entry["trials"]] == [False, *[True] * 8]


@pytest.mark.parametrize(("trials", "confirmed"), [(1, 1), (2, 1), (4, 2), (8, 4), (32, 4), (128, 4)])
def test_a_small_search_confirms_at_most_half_of_its_trials(trials, confirmed):
    assert Budget.of_counts(trials, 2).confirmed == confirmed


def test_seeds_of_trials_confirmation_and_finals_never_meet():
    assert min(CONFIRMATION_SEEDS) > MOST_TRIALS
    assert max(CONFIRMATION_SEEDS) < FIRST_FINAL_SEED
    assert Budget.of_counts(32, 20).final_seeds == tuple(range(2000, 2020))
    assert Budget.of_counts(32, 2).seeds() == {
        "trials": 0, "confirmation": [1000, 1001, 1002], "finals": [2000, 2001],
    }  # fmt: skip


# --- what is refused ---


@pytest.mark.parametrize("finals", [1, 0, 10**9])
def test_too_few_or_too_many_final_seeds_are_refused(finals):
    with pytest.raises(UserError, match="2 to 10,000 seeds"):
        Budget.of_counts(32, finals)


def checked(dataset, spaces=COMPARED, epochs=2, budget=BUDGET):
    check_comparison(spaces, {"mlp": LESSONS["mlp"]}, dataset, budget, epochs)


def test_every_setting_is_checked_for_the_length_of_its_runs(dataset):
    scheduled = space_of("adam", schedule=schedule("warmup_cosine_decay", warmup_steps=5))
    checked(dataset, [*COMPARED, scheduled])
    with pytest.raises(UserError, match="does not fit a run of 3 steps"):
        checked(dataset, [*COMPARED, scheduled], epochs=1)


def test_two_searches_of_one_label_are_refused(dataset):
    with pytest.raises(UserError, match=r"two different optimizers, not .*; adam; adam"):
        checked(dataset, [*COMPARED, space_of("adam")])


def test_a_search_needs_validation_images(dataset):
    with pytest.raises(UserError, match="validation images"):
        checked(dataclasses.replace(dataset, validation=None))


def test_only_powers_of_2_are_trials(dataset):
    with pytest.raises(UserError, match="power of 2"):
        checked(dataset, budget=Budget.of_counts(12, 2))


# --- trained ---


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A comparison that nothing interrupted."""
    return run_compare(tmp_path_factory.mktemp("whole"), dataset)


def test_results_are_those_of_the_runs(whole, dataset):
    fixed, adam = whole.values()
    assert list(whole) == ["sgd, nesterov false", "adam"]
    for entry in whole.values():
        for found in entry["trials"]:
            for name in ("validation_correct", "validation_loss", "test_correct"):
                assert len(found[name]) == 2
        for final in (entry["final"], entry.get("course", entry["final"])):
            assert final["seeds"] == [2000, 2001]
            assert [len(run) for run in final["tests"][0]] == [2, 2]  # of three steps, of which the third ends it
            for right, correct in zip(final["right"], final["test_correct"], strict=True):
                assert unpack_bits(right, dataset.test.size).sum() == correct[-1]
    assert "course" not in fixed
    assert ("course" in adam) == (adam["chosen"] != 0)


# A resumed group of three runs shows three epochs again before it keeps a run: fewer than 5 would never end.
@pytest.mark.parametrize("between", [7, pytest.param(5, marks=pytest.mark.slow)])
def test_interrupted_study_continues_where_it_stopped(whole, dataset, tmp_path, monkeypatch, between):
    """Interrupted again and again, each time after some epochs."""
    show, parts, shown = EpochProgress.show, tmp_path / "parts", itertools.count(1)

    def interrupted(self, *args, **rest):
        if next(shown) % between == 0:
            raise KeyboardInterrupt
        show(self, *args, **rest)

    monkeypatch.setattr(EpochProgress, "show", interrupted)
    interruptions, before = 0, ""
    while True:
        try:
            found = run_compare(parts, dataset)
            break
        except KeyboardInterrupt:
            interruptions += 1
            assert interruptions < 50
            after = (parts / JOURNAL).read_text()
            assert after.startswith(before)
            before = after
    assert interruptions > 2
    assert found == whole
    runs = [json.loads(line) for line in (parts / JOURNAL).read_text().splitlines()[1:]]
    names = [(run["optimizer"], run["stage"], run["learning_rate"], run["seed"]) for run in runs]
    finals = sum(1 + ("course" in entry) for entry in whole.values())
    assert len(set(names)) == len(names) == 2 * (3 + 3) + 2 * finals
    assert not (parts / CHECKPOINTS).exists()


def test_progress_knows_the_runs_that_are_left(dataset, tmp_path, monkeypatch):
    run_compare(tmp_path, dataset)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(lines[:-1]))
    left = []

    def progress(*rest, runs, **more):
        left.append(runs)
        return EpochProgress(*rest, runs=runs, **more)

    monkeypatch.setattr("mnist_jax.cli.study.EpochProgress", progress)
    run_compare(tmp_path, dataset)
    assert left == [sum(map(BUDGET.runs, COMPARED)) - (len(lines) - 2)]


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


def test_finished_comparison_is_read_without_training(dataset, tmp_path, monkeypatch):
    first = run_compare(tmp_path, dataset)
    monkeypatch.setattr("mnist_jax.runs.loop._train_epoch", None)
    assert run_compare(tmp_path, dataset) == first


def test_final_runs_are_paired(dataset, tmp_path):
    """A seed means the same weights, order and dropout for every optimizer: without a step there is no difference."""
    tiny = [still(space_of("sgd", nesterov=False)), still(space_of("adagrad"))]
    sgd, adagrad = run_compare(tmp_path, dataset, tiny, LESSONS["dropout"]).values()
    for name in ("test_loss", "train_loss", "right"):
        assert sgd["final"][name] == adagrad["final"][name]
    assert sgd["final"]["train_loss"][0] != sgd["final"]["train_loss"][1]


def still(space):
    """A space of rates that change no weight."""
    rate = dataclasses.replace(space.ranges[0], low=1e-37, high=2e-37, form="value")
    first = dataclasses.replace(space.optimizer, learning_rate=1e-37)
    return dataclasses.replace(space, optimizer=first, dimensions=(rate,))


def test_diverged_runs_are_recorded(dataset, tmp_path):
    lost = space_of("sgd", momentum=0.0, nesterov=False, schedule=schedule("constant", value=1e30))
    fixed, adam = run_compare(tmp_path, dataset, [lost, COMPARED[1]], LESSONS["relu"]).values()
    assert [found["diverged"] for found in fixed["trials"]] == [True] * 3
    assert list(map(score, fixed["trials"])) == [0] * 3
    assert fixed["final"]["diverged"] == [True, True]
    assert fixed["final"]["test_loss"] == [[None], [None]]
    for right, correct in zip(fixed["final"]["right"], fixed["final"]["test_correct"], strict=True):
        assert unpack_bits(right, dataset.test.size).sum() == correct[-1]
    assert adam["final"]["diverged"] == [False, False]
