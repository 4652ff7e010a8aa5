import dataclasses
import json
import math
import operator

import jax
import numpy as np
import pytest
from helpers.lessons import NARROW, exact, first_and_last_quick

from mnist_jax import LESSONS, data, init_state, optimizer, train_epoch
from mnist_jax.runs import devices, sharding
from mnist_jax.runs import loop as experiment
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.devices import Placement, Trainer
from mnist_jax.runs.loop import train_runs
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
    for name, kind in {**kinds, "validation_loss": float, "test_correct": int, "validation_correct": int}.items():
        assert [len(run) for run in entry[name]] == [2, 2]
        assert all(type(value) is kind for run in entry[name] for value in run)


def test_grouped_seeds_match_single_seeds(dataset):
    both = record(train_runs(LESSONS["dropout"], dataset, runs_of_seeds([1, 2]), epochs=2))
    alone = record(train_runs(LESSONS["dropout"], dataset, runs_of_seeds([2]), epochs=2))
    for name in ("test_loss", "train_loss", "test_correct"):
        assert both[name][1] == alone[name][0]


def grid(rates, seeds=(0,)):
    return [Run(seed, (("learning_rate", rate),)) for rate in rates for seed in seeds]


@first_and_last_quick(LESSONS)
def test_runs_on_four_devices_match_one_device(lesson, dataset, one_device):
    assert len(jax.devices()) == 4
    runs = [Run(seed) for seed in range(5)]
    four = list(train_runs(lesson, dataset, runs, epochs=2))
    one_device()
    one = list(train_runs(lesson, dataset, runs, epochs=2))
    key = operator.attrgetter("run.seed", "number", "train_loss", "test_loss", "test_correct", "validation_correct")
    assert sorted(map(key, four)) == sorted(map(key, one))


@pytest.mark.parametrize(
    ("runs", "placement", "most", "counts"),
    [
        (1, Placement(), 6, [1, 1, 1, 1]),
        (1, Placement(), 3, [1, 1, 1]),
        (2, Placement(), 6, [2, 2]),
        (1, Placement(devices_per_run=2), 6, [2, 2]),
        (3, Placement(), 6, [4]),
        (1, Placement(), 1, [4]),
    ],
)
def test_lessons_at_a_time_have_devices_of_their_own(runs, placement, most, counts, dataset):
    apart = placement.apart(runs, most)
    assert [len(each.usable()) for each in apart] == counts
    assert len({device for each in apart for device in each.usable()}) == sum(counts)
    group = runs_of_seeds(range(runs))
    for each in apart:
        states = Trainer(LESSONS["mlp"], dataset, group, each).start(group)
        devices = {device for leaf in jax.tree.leaves(states) for device in leaf.devices()}
        assert devices == set(each.usable()[: runs * each.devices_per_run])


def test_lessons_of_several_processes_train_one_after_another(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert Placement().apart(1, most=6) == [Placement()]


@pytest.mark.parametrize("devices_per_run", [2, 4])
@first_and_last_quick(LESSONS)
def test_split_net_matches_an_unsplit_one(lesson, devices_per_run, dataset):
    # In float64: sums over units are in another order, and nothing else may differ. 66 is two batches and two more.
    lesson = exact(lesson)
    placement = Placement(devices_per_run=devices_per_run)
    with jax.enable_x64(True):
        spread = list(train_runs(lesson, dataset, [Run(3)], epochs=1, placement=placement))
        whole = list(train_runs(lesson, dataset, [Run(3)], epochs=1))
    for mine, its in zip(spread, whole, strict=True):
        assert mine.train_loss == pytest.approx(its.train_loss, rel=1e-9)
        assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-9)


def test_two_runs_split_over_two_devices_each(dataset):
    runs = [Run(3), Run(4)]
    for test_every in (None, 1):
        options = {"epochs": 1, "test_every": test_every}
        spread = list(train_runs(LESSONS["dropout"], dataset, runs, placement=Placement(devices_per_run=2), **options))
        whole = list(train_runs(LESSONS["dropout"], dataset, runs, **options))
        for mine, its in zip(spread, whole, strict=True):
            assert mine.run == its.run
            assert mine.test_loss == pytest.approx(its.test_loss, rel=1e-5)
            assert mine.tests == its.tests


@pytest.mark.parametrize("hidden", [(8, 4), (8,), (8, 6, 4), (8, 6, 4, 3, 8)])
def test_nets_of_any_depth_can_be_split(hidden, dataset):
    lesson = exact(LESSONS["adam"], hidden=hidden)
    with jax.enable_x64(True):
        spread, whole = (
            record(train_runs(lesson, dataset, [Run(3)], epochs=1, placement=Placement(devices_per_run=count)))
            for count in (4, 1)
        )
    assert spread["test_loss"][0] == pytest.approx(whole["test_loss"][0], rel=1e-9)


def test_each_device_has_its_share_of_the_units_and_their_moments(dataset):
    trainer = Trainer(LESSONS["adam"], dataset, [Run(0)], placement=Placement(devices_per_run=4))

    def shares(states):
        parts = [states.params, states.opt_state.inner_state[0].mu]
        names = [("fc1", "kernel"), ("fc1", "bias"), ("batch_norm1", "scale"), ("fc2", "kernel"), ("fc2", "bias")]
        return [[part[layer][name].addressable_shards[0].data.shape for layer, name in names] for part in parts]

    expected = [[(1, 784, 128), (1, 128), (1, 128), (1, 128, 256), (1, 256)]] * 2
    states = trainer.start([Run(0)])
    assert shares(states) == expected
    states, _, _ = trainer.epoch(states)
    assert shares(states) == expected
    assert shares(trainer.restored(states, trainer.arrays(states, 1))) == expected


@pytest.mark.parametrize(
    ("layer", "shape", "share"),
    [("fc1", (784,), (784,)), ("fc1", (16,), (4,)), ("fc1", (1,), (1,)), ("fc2", (1, 8), (1, 8)), ("fc3", (), ())],
)
def test_optimizer_state_is_split_along_units_only(layer, shape, share):
    """Adafactor keeps sums over rows and columns, and placeholders of one number; 784, 16, 8 and 10 units."""
    state = init_state(NARROW["mlp"], jax.random.key(0))
    state = dataclasses.replace(state, opt_state={layer: {"kernel": np.zeros(shape)}})
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(1, 4), ("run", sharding.AXIS))
    states = devices._grouped(sharding.split, mesh)(jax.tree.map(lambda leaf: leaf[None], state))
    assert states.opt_state[layer]["kernel"].addressable_shards[0].data.shape == (1, *share)


def test_a_split_net_adds_up_over_devices(dataset):
    trainer = Trainer(LESSONS["mlp"], dataset, [Run(0)], placement=Placement(devices_per_run=4))
    states = trainer.start([Run(0)])
    trainer.compile(states)
    program = trainer._compiled.as_text()
    assert "all-reduce" in program
    assert "f32[784,128]" in program  # a quarter of 512 units
    assert "f32[784,512]" not in program


@first_and_last_quick(NARROW)
def test_compiler_options_change_only_rounding(lesson, dataset, monkeypatch):
    with jax.enable_x64(True):
        chosen = record(train_runs(exact(lesson), dataset, [Run(0)], epochs=2))
        monkeypatch.setattr(devices, "COMPILER_OPTIONS", {})
        plain = record(train_runs(exact(lesson), dataset, [Run(0)], epochs=2))
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(chosen[name], plain[name], rtol=1e-9)


@pytest.mark.parametrize(
    ("side_by_side", "runs"),
    [pytest.param(1, 6, marks=pytest.mark.slow), (2, 6), pytest.param(3, 5, marks=pytest.mark.slow), (None, 1)],
)
def test_grouped_runs_match_single_runs(dataset, side_by_side, runs):
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
def test_grid_of_12_rates_compiles_once(dataset, monkeypatch, name):
    traced = []
    monkeypatch.setattr(devices, "train_epoch", lambda *args, **rest: traced.append(name) or train_epoch(*args, **rest))
    lesson = dataclasses.replace(LESSONS["he"], optimizer=optimizer(name, 0.01))
    rates = [0.001 * 1.5**power for power in range(12)]
    epochs = list(train_runs(lesson, dataset, grid(rates, seeds=[0, 1]), epochs=2))
    assert len({epoch.run for epoch in epochs}) == 24
    assert len({epoch.train_loss for epoch in epochs}) == 48
    assert traced == [name]


def test_tests_during_an_epoch_change_nothing(dataset):
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
def test_group_is_independent_of_its_finished_runs(dataset, one_device, side_by_side, devices):
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


def test_finished_groups_are_not_trained(dataset, monkeypatch):
    began = []
    start = Trainer.start
    monkeypatch.setattr(Trainer, "start", lambda trainer, group: began.append(group) or start(trainer, group))
    todo = [Run(seed) for seed in range(9)]  # on four devices: 0 to 3, 4 to 7, 8
    found = list(train_runs(LESSONS["mlp"], dataset, todo, done=[*todo[:4], todo[5], todo[8]], epochs=1))
    assert began == [todo[4:8]]
    assert [epoch.run.seed for epoch in found] == [4, 6, 7]
    assert list(train_runs(LESSONS["mlp"], dataset, todo, done=todo, epochs=1)) == []


def test_one_diverged_run_does_not_stop_its_group(dataset):
    epochs = list(train_runs(LESSONS["relu"], dataset, grid([1e30, 0.01]), epochs=3))
    assert [epoch.number for epoch in epochs if epoch.run == grid([1e30])[0]] == [1]
    assert [epoch.number for epoch in epochs if epoch.run == grid([0.01])[0]] == [1, 2, 3]
    assert record(epochs)["diverged"] == [True, False]


def test_fully_diverged_group_is_kept_and_not_retrained(dataset, tmp_path, monkeypatch):
    """Even if no checkpoint is due yet; training again does nothing."""
    numbers = []
    train = experiment._train_epoch
    monkeypatch.setattr(experiment, "_train_epoch", lambda *a, **b: numbers.append(a[-1]) or train(*a, **b))
    todo, checkpoints = grid([1e30, 2e30]), Checkpoints(tmp_path, every=9)
    for _ in range(2):
        epochs = list(train_runs(LESSONS["relu"], dataset, todo, epochs=5, checkpoints=checkpoints))
        assert [(epoch.run, epoch.number) for epoch in epochs] == [(run, 1) for run in todo]
        assert numbers == [1]


def test_group_name_depends_on_the_data(dataset, toy):
    """A folder of checkpoints does not continue with other digits."""
    others = data.from_arrays(*toy, *toy)
    names = {Trainer(LESSONS["mlp"], digits, [Run(0)]).name([Run(0)]) for digits in (dataset, others)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("train_loss", "test_loss", "diverged"),
    [(0.1, 0.2, False), (math.nan, 0.2, True), (0.1, math.inf, True), (math.inf, math.nan, True)],
)
def test_run_diverged_if_either_loss_is_not_finite(train_loss, test_loss, diverged):
    assert Epoch(Run(0), 1, train_loss, test_loss, 10, None, 1.0).diverged == diverged


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("side_by_side", [1, 2])
def test_run_hyperparameters_are_bit_identical_to_lesson_hyperparameters(dataset, dtype, side_by_side):
    own = dataclasses.replace(LESSONS["adam"], optimizer=optimizer("adam", 0.1), hidden=(3,), dtype=dtype)
    other = dataclasses.replace(own, optimizer=optimizer("adam", 0.3))
    with jax.enable_x64(dtype == "float64"):
        expected = train_runs(own, dataset, [Run(0), Run(1)], epochs=1, placement=Placement(side_by_side))
        found = train_runs(other, dataset, grid([0.1], seeds=[0, 1]), epochs=1, placement=Placement(side_by_side))
        for mine, its in zip(found, expected, strict=True):
            assert (mine.train_loss, mine.test_loss) == (its.train_loss, its.test_loss)


@pytest.mark.parametrize("lesson_id", [pytest.param("batch_norm", marks=pytest.mark.slow), "adam"])
def test_one_unit_per_device_is_allowed(dataset, lesson_id):
    lesson = exact(LESSONS[lesson_id], hidden=(4,))
    with jax.enable_x64(True):
        spread = list(train_runs(lesson, dataset, [Run(3)], epochs=1, placement=Placement(devices_per_run=4)))
        whole = list(train_runs(lesson, dataset, [Run(3)], epochs=1))
    assert spread[0].train_loss == pytest.approx(whole[0].train_loss, rel=1e-9)
    assert spread[0].test_loss == pytest.approx(whole[0].test_loss, rel=1e-9)


def test_diverged_run_ends_and_is_marked(dataset):
    lesson = dataclasses.replace(LESSONS["relu"], optimizer=optimizer("sgd", 1e30))
    entry = record(train_runs(lesson, dataset, runs_of_seeds([0]), epochs=5))
    assert entry["diverged"] == [True]
    assert entry["train_loss"] == [[None]]
    json.dumps(entry, allow_nan=False)


def test_no_validation_split_gives_no_validation_counts(toy):
    whole = data.from_arrays(*toy, *toy, split="notebooks")
    assert record(train_runs(LESSONS["mlp"], whole, runs_of_seeds([0]), epochs=1))["validation_correct"] is None


def test_epoch_is_compiled_with_the_compiler_options(dataset, monkeypatch):
    monkeypatch.setattr(devices, "COMPILER_OPTIONS", {"cpu": {"xla_no_such_option": True}})
    trainer = Trainer(dataclasses.replace(LESSONS["mlp"], hidden=(3,)), dataset, [Run(0)])
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        trainer.compile(trainer.start([Run(0)]))


def test_an_epoch_compiles_itself(dataset):
    trainer = Trainer(dataclasses.replace(LESSONS["mlp"], hidden=(3,)), dataset, [Run(0)])
    assert not trainer.is_compiled
    _, loss, _ = trainer.epoch(trainer.start([Run(0)]))
    assert loss.shape == (1,)
    assert trainer.is_compiled
