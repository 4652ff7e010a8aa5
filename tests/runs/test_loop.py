import dataclasses
import json
import math
import operator

import jax
import numpy as np
import pytest
from helpers.lessons import first_and_last_quick

from mnist_jax import LESSONS, Examples, UserError, data, optimizer, train_epoch
from mnist_jax.runs import devices
from mnist_jax.runs import loop as experiment
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.devices import Placement, Trainer, most_side_by_side
from mnist_jax.runs.loop import check_runs, train_runs
from mnist_jax.runs.records import Epoch, Run, RunRecord, lesson_entry, runs_of_seeds


def record(epochs):
    """A lesson's entry in results.json."""
    runs = {}
    for epoch in epochs:
        runs.setdefault(epoch.run, []).append(epoch)
    return lesson_entry([RunRecord.of_epochs(run) for run in runs.values()])


@first_and_last_quick(LESSONS)
def test_a_record_has_a_number_for_every_seed_and_epoch(lesson, dataset):
    entry = record(train_runs(lesson, dataset, runs_of_seeds([0, 3]), epochs=2))
    assert entry["seeds"] == [0, 3]
    assert entry["diverged"] == [False, False]
    kinds = dict.fromkeys(("test_loss", "train_loss", "seconds"), float)
    for name, kind in {**kinds, "test_correct": int, "validation_correct": int}.items():
        assert [len(run) for run in entry[name]] == [2, 2]
        assert all(type(value) is kind for run in entry[name] for value in run)


def test_seeds_side_by_side_are_what_each_is_alone(dataset):
    both = record(train_runs(LESSONS["dropout"], dataset, runs_of_seeds([1, 2]), epochs=2))
    alone = record(train_runs(LESSONS["dropout"], dataset, runs_of_seeds([2]), epochs=2))
    for name in ("test_loss", "train_loss", "test_correct"):
        assert both[name][1] == alone[name][0]


def grid(rates, seeds=(0,)):
    return [Run(seed, (("learning_rate", rate),)) for rate in rates for seed in seeds]


@first_and_last_quick(LESSONS)
def test_runs_on_four_devices_are_what_they_are_on_one(lesson, dataset, one_device):
    assert len(jax.devices()) == 4
    runs = [Run(seed) for seed in range(5)]
    four = list(train_runs(lesson, dataset, runs, epochs=2))
    one_device()
    one = list(train_runs(lesson, dataset, runs, epochs=2))
    key = operator.attrgetter("run.seed", "number", "train_loss", "test_loss", "test_correct", "validation_correct")
    assert sorted(map(key, four)) == sorted(map(key, one))


@first_and_last_quick(LESSONS)
def test_a_batch_spread_over_four_devices_trains_the_same(lesson, dataset):
    # In float64: sums over a batch are in another order, and nothing else may differ. 66 is two batches and two more.
    lesson = dataclasses.replace(lesson, dtype="float64")
    with jax.enable_x64(True):
        spread = list(train_runs(lesson, dataset, [Run(3)], epochs=2, placement=Placement(devices_per_run=4)))
        whole = list(train_runs(lesson, dataset, [Run(3)], epochs=2))
    for mine, its in zip(spread, whole, strict=True):
        assert mine.train_loss == pytest.approx(its.train_loss, rel=1e-9)
        assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-9)


def test_two_runs_with_batches_spread_over_two_devices_each(dataset):
    runs = [Run(3), Run(4)]
    for test_every in (None, 1):
        options = {"epochs": 1, "test_every": test_every}
        spread = list(train_runs(LESSONS["dropout"], dataset, runs, placement=Placement(devices_per_run=2), **options))
        whole = list(train_runs(LESSONS["dropout"], dataset, runs, **options))
        for mine, its in zip(spread, whole, strict=True):
            assert mine.run == its.run
            assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-5)
            assert mine.tests == its.tests


def test_a_spread_batch_s_gradients_are_summed_over_its_devices(dataset):
    trainer = Trainer(LESSONS["mlp"], dataset, [Run(0)], placement=Placement(devices_per_run=4))
    states = trainer.start([Run(0)])
    trainer.compile(states)
    program = trainer._compiled.as_text()
    assert "all-reduce" in program
    assert "f32[8,784]" in program  # a quarter of a batch of 32


@pytest.mark.parametrize(
    ("devices_per_run", "batch_size", "error"),
    [(3, 33, "4 devices cannot be split into groups of 3"), (0, 32, "groups of 0"), (4, 30, "batch of 30")],
)
def test_devices_that_cannot_share_a_batch_are_refused(dataset, devices_per_run, batch_size, error):
    lesson = dataclasses.replace(LESSONS["mlp"], batch_size=batch_size)
    with pytest.raises(UserError, match=error):
        train_runs(lesson, dataset, [Run(0)], placement=Placement(devices_per_run=devices_per_run))


@first_and_last_quick(LESSONS)
def test_the_compiler_s_options_change_no_result(lesson, dataset, monkeypatch):
    with_options = record(train_runs(lesson, dataset, runs_of_seeds([0]), epochs=2))
    monkeypatch.setattr(devices, "COMPILER_OPTIONS", {})
    without = record(train_runs(lesson, dataset, runs_of_seeds([0]), epochs=2))
    for name in ("train_loss", "test_loss"):
        assert with_options[name] == without[name]


@pytest.mark.parametrize(("side_by_side", "runs"), [(1, 6), (2, 6), (3, 5), (None, 1)])
def test_a_group_s_runs_are_what_each_is_alone(dataset, side_by_side, runs):
    # On four devices (conftest.py): two groups, the last filled up with copies; one, filled up, twice; one device.
    todo = grid([0.01, 0.03, 0.1], seeds=[3, 4])[:runs]
    together = list(train_runs(LESSONS["relu"], dataset, todo, epochs=2, placement=Placement(side_by_side)))
    assert [(epoch.run, epoch.number) for epoch in together if epoch.number == 2] == [(run, 2) for run in todo]
    assert len(together) == 2 * runs
    for run in todo[::3]:
        ((_, rate),) = run.hyperparameters
        lesson = dataclasses.replace(LESSONS["relu"], optimizer=optimizer("sgd", rate, momentum=0.5))
        alone = list(train_runs(lesson, dataset, runs_of_seeds([run.seed]), epochs=2))
        for mine, its in zip([epoch for epoch in together if epoch.run == run], alone, strict=True):
            assert mine.train_loss == pytest.approx(its.train_loss, rel=1e-4)
            assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-4)


def test_runs_are_spread_over_all_devices(dataset, monkeypatch):
    meshes = []
    grouped = devices._grouped
    monkeypatch.setattr(
        devices, "_grouped", lambda function, mesh, **rest: meshes.append(mesh) or grouped(function, mesh, **rest)
    )
    list(train_runs(LESSONS["mlp"], dataset, grid([0.01] * 4), epochs=1))
    assert {mesh.size for mesh in meshes} == {4}


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_grid_of_12_rates_is_one_compilation(dataset, monkeypatch, name):
    traced = []
    monkeypatch.setattr(devices, "train_epoch", lambda *args, **rest: traced.append(name) or train_epoch(*args, **rest))
    lesson = dataclasses.replace(LESSONS["he"], optimizer=optimizer(name, 0.01))
    rates = [0.001 * 1.5**power for power in range(12)]
    epochs = list(train_runs(lesson, dataset, grid(rates, seeds=[0, 1]), epochs=2))
    assert len({epoch.run for epoch in epochs}) == 24
    assert len({epoch.train_loss for epoch in epochs}) == 48
    assert traced == [name]


def test_tests_on_the_way_change_nothing_and_come_after_so_many_steps(dataset):
    # 66 examples in batches of 8: steps 1 to 9, the last with two examples.
    lesson = dataclasses.replace(LESSONS["relu"], batch_size=8)
    plain = list(train_runs(lesson, dataset, [Run(0)], epochs=2))
    tested = list(train_runs(lesson, dataset, [Run(0)], epochs=2, test_every=4))
    finer = list(train_runs(lesson, dataset, [Run(0)], epochs=2, test_every=2))
    for mine, its, other in zip(plain, tested, finer, strict=True):
        assert mine.tests == ()
        assert its.tests == other.tests[1::2]
        assert len(other.tests) == 4
        assert its.train_loss == pytest.approx(mine.train_loss, rel=1e-4)
        assert its.test_loss == pytest.approx(mine.test_loss, rel=1e-4)
    assert record(tested)["tests"] == [[list(epoch.tests) for epoch in tested]]


@pytest.mark.parametrize(("side_by_side", "devices"), [(4, 1), (1, 4)])
def test_a_group_is_the_same_whichever_of_its_runs_are_done(dataset, one_device, side_by_side, devices):
    if devices == 1:
        one_device()
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(16, 8))
    todo = grid([0.1, 1e30, 0.03], seeds=[3, 4, 5])

    def trained(done=()):
        epochs = train_runs(lesson, dataset, todo, done=done, epochs=2, placement=Placement(side_by_side))
        return {(epoch.run, epoch.number): repr(dataclasses.replace(epoch, seconds=0.0)) for epoch in epochs}

    whole = trained()
    for done in (todo[1:4], todo[::2]):
        assert trained(done) == {key: epoch for key, epoch in whole.items() if key[0] not in done}


def test_groups_that_are_done_are_not_trained(dataset, monkeypatch):
    began = []
    start = Trainer.start
    monkeypatch.setattr(Trainer, "start", lambda trainer, group: began.append(group) or start(trainer, group))
    todo = [Run(seed) for seed in range(9)]  # on four devices: 0 to 3, 4 to 7, 8
    found = list(train_runs(LESSONS["mlp"], dataset, todo, done=[*todo[:4], todo[5], todo[8]], epochs=1))
    assert began == [todo[4:8]]
    assert [epoch.run.seed for epoch in found] == [4, 6, 7]
    assert list(train_runs(LESSONS["mlp"], dataset, todo, done=todo, epochs=1)) == []


def test_one_run_diverges_and_the_others_of_its_group_go_on(dataset):
    epochs = list(train_runs(LESSONS["relu"], dataset, grid([1e30, 0.01]), epochs=3))
    assert [epoch.number for epoch in epochs if epoch.run == grid([1e30])[0]] == [1]
    assert [epoch.number for epoch in epochs if epoch.run == grid([0.01])[0]] == [1, 2, 3]
    assert record(epochs)["diverged"] == [True, False]


def test_a_group_of_which_all_diverged_is_kept_and_trained_no_more(dataset, tmp_path, monkeypatch):
    """Also where no checkpoint is due yet; the same again trains nothing."""
    numbers = []
    train = experiment._train_epoch
    monkeypatch.setattr(experiment, "_train_epoch", lambda *rest: numbers.append(rest[-1]) or train(*rest))
    todo, checkpoints = grid([1e30, 2e30]), Checkpoints(tmp_path, every=9)
    for _ in range(2):
        epochs = list(train_runs(LESSONS["relu"], dataset, todo, epochs=5, checkpoints=checkpoints))
        assert [(epoch.run, epoch.number) for epoch in epochs] == [(run, 1) for run in todo]
        assert numbers == [1]


def test_a_group_s_name_is_of_its_data(dataset, toy):
    """A folder of checkpoints does not continue with other digits."""
    others = data.from_arrays(toy, toy, "slides")
    names = {Trainer(LESSONS["mlp"], digits, [Run(0)]).name([Run(0)]) for digits in (dataset, others)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("runs", "rest", "error"),
    [
        ([Run(0, (("b1", 0.5),))], {}, "b1"),
        *(([Run(0, (("learning_rate", rate),))], {}, "learning rate") for rate in (math.nan, -1.0, 0.0, "x", 1e39)),
        ([Run(0, (("learning_rate", 0.1), ("momentum", 1.0)))], {}, "momentum must be"),
        ([Run(0), Run(1, (("momentum", math.inf),))], {}, "momentum must be"),
        ([Run(0.5)], {}, "Seeds must be Python ints"),
        ([Run(0)], {"placement": Placement(0)}, "At least 1 run per device"),
        ([Run(0), Run(1, (("learning_rate", 0.1),))], {}, "same hyperparameters"),
    ],
)
def test_runs_that_cannot_be_are_refused(dataset, runs, rest, error):
    with pytest.raises(ValueError, match=error):
        train_runs(LESSONS["mlp"], dataset, runs, epochs=1, **rest)


@pytest.mark.parametrize(
    ("train_loss", "test_loss", "diverged"),
    [(0.1, 0.2, False), (math.nan, 0.2, True), (0.1, math.inf, True), (math.inf, math.nan, True)],
)
def test_a_run_has_diverged_where_either_loss_is_not_finite(train_loss, test_loss, diverged):
    assert Epoch(Run(0), 1, train_loss, test_loss, 10, None, 1.0).diverged == diverged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("side_by_side", [1, 2])
def test_a_run_s_hyperparameters_are_the_lesson_s_own_to_the_last_bit(dataset, dtype, side_by_side):
    own = dataclasses.replace(LESSONS["adam"], optimizer=optimizer("adam", 0.1), hidden=(3,), dtype=dtype)
    other = dataclasses.replace(own, optimizer=optimizer("adam", 0.3))
    with jax.enable_x64(dtype == "float64"):
        expected = train_runs(own, dataset, [Run(0), Run(1)], epochs=1, placement=Placement(side_by_side))
        found = train_runs(other, dataset, grid([0.1], seeds=[0, 1]), epochs=1, placement=Placement(side_by_side))
        for mine, its in zip(found, expected, strict=True):
            assert (mine.train_loss, mine.test_loss) == (its.train_loss, its.test_loss)


@pytest.mark.parametrize("lesson_id", ["batch_norm", "adam"])
def test_a_device_s_share_of_a_batch_may_be_one_example(dataset, lesson_id):
    """Batch norm's statistics are of the whole batch."""
    lesson = dataclasses.replace(LESSONS[lesson_id], hidden=(3,), batch_size=4, dtype="float64")
    with jax.enable_x64(True):
        spread = list(train_runs(lesson, dataset, [Run(3)], epochs=1, placement=Placement(devices_per_run=4)))
        whole = list(train_runs(lesson, dataset, [Run(3)], epochs=1))
    assert spread[0].train_loss == pytest.approx(whole[0].train_loss, rel=1e-9)
    assert spread[0].test_loss == pytest.approx(whole[0].test_loss, rel=1e-9)


def test_a_diverged_run_ends_and_says_so(dataset):
    lesson = dataclasses.replace(LESSONS["relu"], optimizer=optimizer("sgd", 1e30))
    entry = record(train_runs(lesson, dataset, runs_of_seeds([0]), epochs=5))
    assert entry["diverged"] == [True]
    assert entry["train_loss"] == [[None]]
    json.dumps(entry, allow_nan=False)


def test_without_validation_there_is_none(toy):
    whole = data.from_arrays(toy, toy, "notebooks")
    assert record(train_runs(LESSONS["mlp"], whole, runs_of_seeds([0]), epochs=1))["validation_correct"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"seeds": []}, "seeds must be 1 to"),
        ({"seeds": range(10**9)}, "seeds must be 1 to 10,000, not 1,000,000,000"),
        ({"seeds": [-1]}, "Seeds must be"),
        ({"seeds": [0.5]}, "Seeds must be Python ints"),
        ({"lesson": dataclasses.replace(LESSONS["mlp"], batch_size=67)}, "batch of 67 is larger than the 66"),
        ({"lesson": dataclasses.replace(LESSONS["he"], batch_size=13)}, "66 examples in batches of 13 leave one over"),
        ({"lesson": dataclasses.replace(LESSONS["adam"], batch_size=5)}, "choose another batch size, such as 6"),
        ({"epochs": 2**31 // 3 + 1}, "at most 2,147,483,647 steps"),
        ({"epochs": 9 * 10**4299}, "at most 2,147,483,647 steps"),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(dataset, change, says):
    arguments = {"lesson": LESSONS["mlp"], "seeds": [0], "epochs": 1, **change}
    with pytest.raises(UserError, match=says):
        train_runs(arguments["lesson"], dataset, runs_of_seeds(arguments["seeds"]), epochs=arguments["epochs"])


def test_no_runs_are_refused(dataset):
    with pytest.raises(UserError, match="At least one run is needed"):
        train_runs(LESSONS["mlp"], dataset, [], epochs=1)


def sized(dataset, **sizes):
    """The data set as if its splits had these sizes."""
    examples = {
        name: Examples(np.broadcast_to(np.uint8(0), (size, 28, 28)), np.broadcast_to(np.uint8(0), size))
        for name, size in sizes.items()
    }
    return dataclasses.replace(dataset, **examples)


@pytest.mark.parametrize("side_by_side", [1_000, 10**6, 10**400])
def test_more_runs_side_by_side_than_fit_are_refused(dataset, side_by_side):
    # 10,000 nets of lesson he on 10,000 images would take 600 GB of activations.
    mnist, many = sized(dataset, train=60_000, test=10_000), range(10_000)
    with pytest.raises(UserError, match="At most 241 runs of this net fit"):
        check_runs(LESSONS["he"], mnist, runs_of_seeds(many), epochs=1, placement=Placement(side_by_side))
    check_runs(LESSONS["he"], mnist, runs_of_seeds(many), epochs=1, placement=Placement(241))
    check_runs(LESSONS["he"], mnist, runs_of_seeds(range(241)), epochs=1, placement=Placement(side_by_side))
    check_runs(LESSONS["he"], mnist, runs_of_seeds(many), epochs=1)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_runs_side_by_side_fit_by_their_weights_their_batch_and_their_larger_evaluation(dataset, split):
    mnist = sized(dataset, **{split: 10_000})
    large = dataclasses.replace(LESSONS["he"], hidden=(100_000, 200))
    deep = dataclasses.replace(LESSONS["he"], batch_size=100_000)
    assert [most_side_by_side(lesson, mnist) for lesson in (LESSONS["he"], large, deep)] == [241, 3, 27]


def test_by_default_no_more_runs_are_side_by_side_than_fit(dataset, one_device, monkeypatch):
    one_device()
    monkeypatch.setattr(devices, "SIDE_BY_SIDE", {"cpu": 32})
    runs = [Run(seed) for seed in range(40)]
    assert Trainer(LESSONS["mlp"], dataset, runs).width == 32
    each = 4 * LESSONS["mlp"].parameters + 32 * LESSONS["mlp"].activations
    for numbers, width in ((each * 5, 5), (each * 6 - 1, 5), (each - 1, 1)):
        monkeypatch.setattr(devices, "MOST_NUMBERS", numbers)
        assert Trainer(LESSONS["mlp"], dataset, runs).width == width


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_net_that_fits_in_training_but_not_in_evaluation_is_refused(dataset, split, monkeypatch):
    lesson = dataclasses.replace(LESSONS["mlp"], hidden=(3,))
    monkeypatch.setattr("mnist_jax.lessons.MOST_ACTIVATIONS", 100 * lesson.activations)
    check_runs(lesson, sized(dataset, **{split: 100}), runs_of_seeds([0]), epochs=1)
    with pytest.raises(UserError, match="cannot be applied to 101 images at once"):
        check_runs(lesson, sized(dataset, **{split: 101}), runs_of_seeds([0]), epochs=1)


def test_the_epoch_is_compiled_with_the_compiler_s_options(dataset, monkeypatch):
    monkeypatch.setattr(devices, "COMPILER_OPTIONS", {"cpu": {"xla_no_such_option": True}})
    trainer = Trainer(dataclasses.replace(LESSONS["mlp"], hidden=(3,)), dataset, [Run(0)])
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        trainer.compile(trainer.start([Run(0)]))
