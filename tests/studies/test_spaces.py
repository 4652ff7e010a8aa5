import json
from zlib import crc32

import numpy as np
import pytest
from scipy.stats import binom, qmc

from mnist_jax import LESSONS, OPTIMIZERS, UserError, optimizer, schedule
from mnist_jax.optimizers import Optimizer, transformation
from mnist_jax.studies.dimensions import Range
from mnist_jax.studies.spaces import MOST_TRIALS, SPACES, Edge, Space, edges, space_of

OTHERS = ["contrib.dadapt_adamw", "rprop", "lbfgs", "polyak_sgd", "sm3"]  # without an entry of their own


@pytest.mark.parametrize("name", SPACES)
def test_every_setting_of_a_space_is_in_its_ranges_and_can_be_trained(name):
    space = SPACES[name]
    settings = space.trials("MNIST", "he", 32)
    assert len(settings) == 33
    for setting in settings[1:]:
        assert all(-1e-3 < space.place(dimension, setting) < 1 + 1e-3 for dimension in space.ranges)
        assert all(setting[choice.name] in choice.values for choice in space.choices)
        # As recorded: six digits, and the same after JSON.
        assert all(value == float(f"{value:.6g}") for value in setting.values() if isinstance(value, float))
        assert json.loads(json.dumps(setting)) == setting
    for setting in settings:
        program = space.program(setting, steps=100).for_run(steps_per_epoch=20, epochs=5)
        program.check(dict(space.numbers(setting)))
        program.transformation(dict(space.numbers(setting)))


@pytest.mark.parametrize("name", SPACES)
def test_settings_fill_each_dimension_evenly(name):
    """Sobol's sequence is balanced: of 32 draws one lies in each 32nd of a range, half in each of two choices."""
    space = SPACES[name]
    settings = space.trials("MNIST", "he", 32)[1:]
    for dimension in space.ranges:
        # Up to rounding of 1 - value, which may carry a draw over a border.
        places = np.sort([space.place(dimension, setting) for setting in settings])
        assert np.all(np.abs(places - (np.arange(32) + 0.5) / 32) < 0.5 / 32 + 2e-3)
    for choice in space.choices:
        assert [[setting[choice.name] for setting in settings].count(value) for value in choice.values] == [16, 16]


def test_draws_are_those_of_the_protocol():
    """Computed by hand, from the protocol's formula."""
    rng = np.random.default_rng([18, crc32(b"MNIST/he/sgd")])
    rate, momentum, nesterov, rates = qmc.Sobol(4, scramble=True, rng=rng).random_base2(3)[5]
    setting = SPACES["sgd"].trials("MNIST", "he", 8)[6]
    assert setting["momentum"] == float(f"{1 - 0.01 * 100**momentum:.6g}")
    assert setting["learning_rate"] == float(f"{0.01 * 300**rate * (1 - setting['momentum']):.6g}")
    assert setting["nesterov"] == [False, True][int(2 * nesterov)]
    assert setting["schedule"] == ["constant", "cosine"][int(2 * rates)]
    assert list(setting) == ["learning_rate", "momentum", "nesterov", "schedule"]


def test_searches_are_repeatable_and_independent():
    trials = SPACES["adam"].trials("MNIST", "he", 16)
    assert SPACES["adam"].trials("MNIST", "he", 16) == trials
    others = [SPACES["adam"].trials(*where, 16) for where in (("MNIST", "relu"), ("Fashion-MNIST", "he"))]
    others.append(SPACES["nadam"].trials("MNIST", "he", 16))
    assert all(trial not in other for other in others for trial in trials[1:])


def test_trial_0_is_the_course_or_optax():
    assert SPACES["sgd"].trials("MNIST", "he", 1)[0] == {
        "learning_rate": 0.01, "momentum": 0.5, "nesterov": False, "schedule": "constant",
    }  # fmt: skip
    assert SPACES["adam"].trials("MNIST", "he", 1)[0] == {
        "learning_rate": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "schedule": "constant",
    }  # fmt: skip
    for name, lesson in (("sgd", LESSONS["mlp"]), ("adam", LESSONS["adam"])):
        space = SPACES[name]
        first = space.trials("MNIST", "he", 1)[0]
        assert dict(lesson.optimizer.hyperparameters).items() <= first.items()
        assert lesson.optimizer.learning_rate == space.program(first, steps=100).learning_rate
    assert SPACES["contrib.muon"].trials("MNIST", "he", 1)[0]["nesterov"] is True
    assert SPACES["contrib.prodigy"].trials("MNIST", "he", 1)[0]["betas_2"] == 0.999
    assert SPACES["adabelief"].trials("MNIST", "he", 1)[0]["eps_root"] == 1e-16


@pytest.mark.parametrize("name", SPACES)
def test_settings_of_the_same_choices_share_a_program(name):
    space = SPACES[name]
    programs = {}
    for setting in space.trials("MNIST", "he", 32):
        programs.setdefault(space.variant(setting), set()).add(space.program(setting, steps=100))
    assert all(len(found) == 1 for found in programs.values())
    assert len(programs) == 2 ** len(space.choices)


def test_choices_become_settings_of_the_optimizer():
    sgd, free, prodigy = (SPACES[name] for name in ("sgd", "contrib.schedule_free_sgd", "contrib.prodigy"))
    first = sgd.trials("MNIST", "he", 1)[0]
    cosine = sgd.program({**first, "schedule": "cosine", "nesterov": True}, steps=100)
    assert dict(cosine.hyperparameters) == {"momentum": 0.5, "nesterov": True}
    shape = cosine.for_run(steps_per_epoch=20, epochs=5).schedule.shape()
    assert [float(shape(step)) for step in (0, 5)] == [0, 1]
    assert float(shape(100)) == pytest.approx(0, abs=1e-6)
    assert float(shape(52.5)) == pytest.approx(0.5)
    assert sgd.program(first, steps=100).schedule is None
    first = free.trials("MNIST", "he", 1)[0]
    assert "warmup_steps" not in dict(free.program(first, steps=100).hyperparameters)
    assert dict(free.program({**first, "warmup_fraction": 0.05}, steps=2150).hyperparameters)["warmup_steps"] == 108
    first = prodigy.trials("MNIST", "he", 1)[0]
    begin = prodigy.program({**first, "schedule": "cosine"}, steps=100).for_run(steps_per_epoch=20, epochs=5)
    assert 0 < float(begin.schedule.shape()(0)) < 0.02


@pytest.mark.parametrize("name", OTHERS)
def test_an_optimizer_without_an_entry_gets_its_rate_and_a_schedule_drawn(name):
    space = space_of(name)
    assert [dimension.names for dimension in space.ranges] == [("learning_rate",)]
    assert [choice.name for choice in space.choices] == ([] if name == "rprop" else ["schedule"])
    assert space.label == name
    for setting in space.trials("MNIST", "he", 8):
        space.program(setting, steps=100).for_run(steps_per_epoch=20, epochs=5).check(dict(space.numbers(setting)))


def test_the_range_of_other_rates_is_around_their_default():
    assert space_of("sm3").ranges == [Range(("learning_rate",), 1e-5, 10.0)]
    assert space_of("dadapt_adamw").ranges == [Range(("learning_rate",), 0.01, 10.0)]
    assert space_of("dadapt_adamw").optimizer.learning_rate == 1.0


def test_fixed_settings_stay_and_are_not_drawn():
    cosine, clip = schedule("cosine"), (transformation("clip_by_global_norm", 1.0),)
    space = space_of("sgd", momentum=0.9, schedule=cosine, chain=clip)
    assert space.label == "clip_by_global_norm, max_norm 1, then sgd, momentum 0.9, cosine_decay"
    assert [str(dimension) for dimension in space.dimensions] == ["learning rate / (1 - momentum)", "nesterov"]
    for setting in space.trials("MNIST", "he", 8)[1:]:
        assert set(setting) == {"learning_rate", "nesterov"}
        assert 0.001 <= setting["learning_rate"] <= 0.3
        program = space.program(setting, steps=100)
        assert dict(program.hyperparameters) == {"momentum": 0.9, "nesterov": setting["nesterov"]}
        assert (program.schedule, program.chain) == (cosine, clip)
    assert [str(dimension) for dimension in space_of("adam", b1=0.5).dimensions] == [
        "learning rate", "1 - b2", "eps", "schedule",
    ]  # fmt: skip
    assert space_of("muon").label == "contrib.muon"
    assert space_of("muon").dimensions == SPACES["contrib.muon"].dimensions
    free = space_of("schedule_free_sgd", warmup_steps=7)
    assert free.choices == []
    assert dict(free.program(free.trials("MNIST", "he", 1)[0], steps=100).hyperparameters)["warmup_steps"] == 7


def test_momentum_none_is_a_momentum_of_0():
    space = space_of("sgd", momentum=None)
    setting = space.trials("MNIST", "he", 8)[3]
    assert 0.01 <= setting["learning_rate"] <= 3
    assert dict(space.program(setting, steps=100).hyperparameters)["momentum"] is None


@pytest.mark.parametrize(
    ("name", "stays", "says"),
    [("adman", {}, "'adman'"), ("adam", {"b1": 1.0}, "below 1"), ("adam", {"learning_rate": 0.1}, "b1, b2")],
)
def test_invalid_settings_are_refused(name, stays, says):
    with pytest.raises(UserError, match=says):
        space_of(name, **stays)


@pytest.mark.parametrize("count", [0, 3, 33, 2 * MOST_TRIALS, -4])
def test_only_powers_of_2_are_drawn(count):
    with pytest.raises(UserError, match="power of 2"):
        SPACES["adam"].trials("MNIST", "he", count)


LINE = Space(Optimizer("adam", 0.01, (("b1", 0.9),)), (Range(("learning_rate",), 1e-4, 1.0),))


def rates(*places):
    return [{"learning_rate": float(10 ** (-4 + 4 * place))} for place in places]


def test_best_trials_that_crowd_at_an_end_are_flagged():
    settings = rates(*np.linspace(0.01, 0.99, 32))
    high = [*range(32)]
    (crowd,) = edges(LINE, settings, high, settings[20])  # the best eight are the highest, four of them beyond 7/8
    assert crowd == Edge(LINE.ranges[0], "high", 4, False)
    assert [edge.end for edge in edges(LINE, settings, high[::-1], settings[20])] == ["low"]
    assert edges(LINE, settings, [-abs(number - 15) for number in high], settings[15]) == []
    # Four of eight, not three.
    scores = [0] * 12 + [1] * 8
    spread = rates(*[0.5] * 12, 0.9, 0.95, 0.99, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert edges(LINE, spread, scores, None) == []
    spread[-1] = rates(0.88)[0]
    assert [edge.crowded for edge in edges(LINE, spread, scores, None)] == [4]


def test_a_chosen_trial_at_an_end_is_flagged():
    settings = rates(*[0.5] * 32)
    assert edges(LINE, settings, [1] * 32, rates(0.06)[0]) == []
    (edge,) = edges(LINE, settings, [1] * 32, rates(0.04)[0])
    assert (edge.end, edge.crowded, edge.has_chosen) == ("low", 0, True)


def test_an_edge_is_rarely_flagged_where_the_dimension_does_not_matter():
    assert binom.sf(3, 8, 1 / 8) == pytest.approx(0.011, abs=5e-4)


def test_the_momentum_of_a_fixed_one_counts_in_edges():
    space = space_of("sgd", momentum=0.9)
    setting = {"learning_rate": 0.1, "nesterov": False}
    assert space.place(space.ranges[0], setting) == pytest.approx(np.log(1 / 0.01) / np.log(3 / 0.01))


def test_spaces_are_told_apart_in_json():
    found = [json.dumps(space.to_json()) for space in SPACES.values()]
    found += [json.dumps(space_of("sgd", momentum=momentum).to_json()) for momentum in (0.5, 0.9)]
    assert len(set(found)) == len(found)
    assert all(space.optimizer.name == name and name in OPTIMIZERS for name, space in SPACES.items())
    assert optimizer("sgd", 0.01, momentum=0.5, nesterov=False) == SPACES["sgd"].optimizer
