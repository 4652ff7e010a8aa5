"""Schedules against optax's own, called with the learning rate as their peak."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import LESSONS, Schedule, UserError, init_state, optimizer, schedule
from mnist_jax.lessons import for_run
from mnist_jax.optimizers import OPTIMIZERS, schedule_names

PEAK = 0.3
LENGTH = {"steps_per_epoch": 10, "epochs": 4}
STEPS = 40
QUICK = ("sgd", "lbfgs", "rprop", "contrib.prodigy", "contrib.schedule_free_adamw")  # of each kind one

# What is given here, and what optax is called with for 40 steps.
SAME = {
    "constant": ({}, {"value": PEAK}),
    "cosine_decay": (
        {"alpha": 0.1, "exponent": 2.0},
        {"init_value": PEAK, "decay_steps": 40, "alpha": 0.1, "exponent": 2.0},
    ),
    "cosine_onecycle": ({"pct_start": 0.2}, {"transition_steps": 40, "peak_value": PEAK, "pct_start": 0.2}),
    "exponential_decay": (
        {"decay_rate": 0.01, "transition_begin_epochs": 0.5, "staircase": True, "transition_epochs": 0.7},
        {
            "init_value": PEAK,
            "decay_rate": 0.01,
            "transition_begin": 5,
            "transition_steps": 7,
            "staircase": True,
        },
    ),
    "linear_onecycle": ({}, {"transition_steps": 40, "peak_value": PEAK}),
    "linear": (
        {"end_value": 0.1, "transition_begin_steps": 4},
        {"init_value": PEAK, "end_value": 0.1 * PEAK, "transition_steps": 36, "transition_begin": 4},
    ),
    "piecewise_constant": (
        {"at_1_epochs": 0.5, "at_25_steps": 0.1, "at_0.9_fraction": 0.0},
        {"init_value": PEAK, "boundaries_and_scales": {10: 0.5, 25: 0.1, 36: 0.0}},
    ),
    "piecewise_interpolate": (
        {"interpolate_type": "cosine", "init_value": 0.5, "at_2.5_epochs": 2.0},
        {"interpolate_type": "cosine", "init_value": 0.5 * PEAK, "boundaries_and_scales": {25: 2.0}},
    ),
    "polynomial": ({"power": 2.0}, {"init_value": PEAK, "end_value": 0.0, "power": 2.0, "transition_steps": 40}),
    "warmup_constant": ({"warmup_epochs": 1}, {"init_value": 0.0, "peak_value": PEAK, "warmup_steps": 10}),
    "warmup_cosine_decay": (
        {"init_value": 0.1, "warmup_fraction": 0.11, "end_value": 0.01},
        {
            "init_value": 0.1 * PEAK,
            "peak_value": PEAK,
            "warmup_steps": 4,
            "decay_steps": 40,
            "end_value": 0.01 * PEAK,
        },
    ),
    "warmup_exponential_decay": (
        {"warmup_steps": 8, "decay_rate": 0.1},
        {
            "init_value": 0.0,
            "peak_value": PEAK,
            "warmup_steps": 8,
            "transition_steps": 32,
            "decay_rate": 0.1,
        },
    ),
}


def factory(name):
    return getattr(optax.schedules, f"{name}_schedule", None) or getattr(optax.schedules, name)


def rates(chosen, peak=PEAK, steps=STEPS):
    """The traced rate of each step, as the optimizer's state holds it after the step."""
    transformation = optimizer("sgd", 1.0, schedule=chosen).transformation({"learning_rate": jnp.asarray(peak)})
    params = jnp.zeros((), jnp.result_type(float))

    @jax.jit
    def step(state, _):
        _, state = transformation.update(jnp.ones_like(params), state, params)
        return state, state.hyperparams["learning_rate"]

    return jax.lax.scan(step, transformation.init(params), length=steps)[1]


def test_every_schedule_of_optax_is_found():
    public = {name for name in dir(optax) if name.endswith(("_schedule", "_schedules", "_decay"))} - {
        "scale_by_schedule"
    }
    refused = {"join_schedules", "sgdr_schedule"}
    assert {name.removesuffix("_schedule") for name in public - refused} <= set(schedule_names())
    assert set(SAME) <= set(schedule_names())
    for name in refused:
        with pytest.raises(UserError, match="cannot be given by names and numbers"):
            schedule(name)


@pytest.mark.parametrize("name", SAME)
def test_matches_optax(name):
    ours, arguments = SAME[name]
    expected = factory(name)(**arguments)
    for given in (name, f"{name}_schedule"):
        found = rates(schedule(given, **ours).for_run(**LENGTH), steps=STEPS + 5)
        with jax.numpy_dtype_promotion("standard"):
            theirs = np.float32([expected(step) for step in range(STEPS + 5)])
        chex.assert_trees_all_close(found, theirs, rtol=1e-5, atol=1e-12)


def test_warm_up_starts_at_0_reaches_the_peak_and_ends_at_0():
    found = rates(schedule("warmup_cosine_decay", warmup_epochs=1).for_run(**LENGTH), steps=STEPS + 1)
    assert (found[0], found[10], found.max()) == (0, np.float32(PEAK), np.float32(PEAK))
    assert found[9] == pytest.approx(0.9 * PEAK)
    assert 0 < found[STEPS - 1] < 0.01 * PEAK
    assert found[STEPS] == pytest.approx(0, abs=1e-8)


def test_warm_up_defaults_to_5_percent_of_the_run():
    for name, numbers in [("warmup_cosine", {}), ("warmup_constant", {}), ("warmup_exponential", {"decay_rate": 0.1})]:
        found, stated = (
            rates(schedule(name, **numbers, **length).for_run(steps_per_epoch=100, epochs=3), steps=300)
            for length in ({}, {"warmup_steps": 15})
        )
        chex.assert_trees_all_equal(found, stated)


def test_float64_keeps_its_digits():
    with jax.enable_x64(True):
        found = rates(schedule("cosine_decay").for_run(**LENGTH))
        assert found.dtype == jnp.float64
    expected = PEAK * 0.5 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_peak_is_traced():
    chosen = schedule("warmup_cosine_decay", warmup_fraction=0.1).for_run(**LENGTH)
    peaks = jnp.asarray([0.1, 0.3, 1.0])
    traced = []
    together = jax.jit(jax.vmap(lambda peak: traced.append(peak) or rates(chosen, peak)))(peaks)
    assert len(traced) == 1
    chex.assert_trees_all_close(together, jnp.stack([rates(chosen, peak) for peak in peaks]), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_updates_are_those_of_optax_s_own_schedule(name):
    params, grads = {"kernel": jnp.arange(6.0).reshape(2, 3)}, {"kernel": jnp.full((2, 3), 0.3)}
    chosen = schedule("cosine_decay").for_run(**LENGTH)
    ours = optimizer(name, PEAK, schedule=chosen).transformation()
    theirs = getattr(optax, name)(optax.cosine_decay_schedule(PEAK, STEPS))
    results = []
    for transformation in (ours, theirs):
        found, state = params, transformation.init(params)
        for _ in range(5):
            with jax.numpy_dtype_promotion("standard"):
                updates, state = transformation.update(grads, state, found)
            found = optax.apply_updates(found, updates)
        results.append(found)
    chex.assert_trees_all_close(*results, rtol=1e-4)  # Adam's numbers are traced in one, and constants in the other


def after(chosen, steps=12):
    """Parameters that start from 0 to 5, after steps towards 3.3 or, as batches do, a little beside it."""
    params = {"kernel": jnp.arange(6.0).reshape(2, 3)}
    transformation = chosen.transformation()
    state = transformation.init(params)

    @jax.jit
    def step(params, state, goal):
        def bowl(params, obj_fn=None):
            return ((params["kernel"] - goal) ** 2).sum() / 4

        value, grads = jax.value_and_grad(bowl)(params)
        extra = {"value": value, "grad": grads, "value_fn": bowl, "obj_fn": bowl}
        with jax.numpy_dtype_promotion("standard"):
            updates, state = transformation.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    for number in range(steps):
        params, state = step(params, state, 3.3 + 0.01 * number)
    return params["kernel"]


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in OPTIMIZERS]
)
def test_every_optimizer_of_optax_follows_a_schedule_or_refuses_it(name):
    """Even from a rate of 0; refused ones would ignore it, or not learn."""
    length, start = {"steps_per_epoch": 12, "epochs": 1}, np.arange(6.0).reshape(2, 3)
    plain = optimizer(name, 0.1)
    try:
        scheduled = dataclasses.replace(plain, schedule=schedule("linear"))
        scheduled.check()
    except UserError as error:
        assert "no schedule would change it" in str(error)  # noqa: PT017
        scheduled = dataclasses.replace(plain, schedule=schedule("linear").for_run(**length))
        chex.assert_trees_all_equal(after(scheduled), after(plain))
        return
    found = after(scheduled.for_run(**length))
    assert np.isfinite(found).all()
    assert not np.array_equal(found, after(plain))
    warm = dataclasses.replace(plain, schedule=schedule("warmup_constant", warmup_fraction=0.3))
    try:
        warm = warm.for_run(**length)
    except UserError as error:
        assert "init_value above 0" in str(error)  # noqa: PT017
        stuck = after(dataclasses.replace(warm, schedule=warm.schedule.for_run(**length)))
        assert not np.isfinite(stuck).all() or np.array_equal(stuck, start)
        warm = schedule("warmup_constant", warmup_fraction=0.3, init_value=0.1)
        warm = dataclasses.replace(plain, schedule=warm).for_run(**length)
    found = after(warm)
    assert np.isfinite(found).all()
    assert not np.array_equal(found, start)


@pytest.mark.parametrize(("amount", "steps"), [(0.05, 2), (0.01, 1), (1e-9, 1), (0.99, 40), (1, 40)])
def test_lengths_are_rounded_to_at_least_one_step(amount, steps):
    by_fraction = schedule("cosine_decay", decay_fraction=amount).for_run(**LENGTH)
    by_steps = schedule("cosine_decay", decay_steps=steps).for_run(**LENGTH)
    chex.assert_trees_all_equal(rates(by_fraction), rates(by_steps))


def test_a_schedule_that_knows_its_run_keeps_it():
    chosen = schedule("cosine_decay").for_run(**LENGTH)
    assert (chosen.steps, chosen.epochs) == (40, 4)
    assert chosen.for_run(steps_per_epoch=7, epochs=1) is chosen


def test_training_needs_the_length_of_the_run():
    lesson = dataclasses.replace(LESSONS["mlp"], optimizer=optimizer("sgd", 0.1, schedule=schedule("cosine_decay")))
    with pytest.raises(UserError, match=r"mnist_jax\.lessons\.for_run"):
        init_state(lesson, jax.random.key(0))
    known = for_run(lesson, **LENGTH)
    assert init_state(known, jax.random.key(0)).opt_state.hyperparams["learning_rate"] == np.float32(0.1)
    assert for_run(LESSONS["mlp"], **LENGTH) is LESSONS["mlp"]


@pytest.mark.parametrize(
    ("name", "numbers", "words"),
    [
        ("cosin", {}, "choose one of: constant, cosine_decay"),
        ("cosine_decay", {"warmup_steps": 3}, "choose one of: init_value, decay_epochs, decay_fraction, decay_steps"),
        ("cosine_decay", {"decay_steps": 3, "decay_fraction": 0.1}, "second time"),
        ("cosine_decay", {"decay_epochs": 0}, "above 0"),
        ("cosine_decay", {"decay_fraction": 1.1}, "at most 1,"),
        ("cosine_decay", {"alpha": -0.1}, "at least 0"),
        ("cosine_decay", {"exponent": float("nan")}, "number that float32 holds"),
        ("cosine_decay", {"exponent": 1e39}, "float32"),
        ("cosine_decay", {"exponent": True}, "number"),
        ("cosine_onecycle", {"div_factor": 0}, "above 0"),
        ("cosine_onecycle", {"pct_start": 1.0}, "below 1"),
        ("linear_onecycle", {"pct_start": 0.9}, "each above the one before"),
        ("exponential_decay", {}, "needs decay_rate"),
        ("exponential_decay", {"decay_rate": 0.1, "staircase": 1.0}, "True or False"),
        ("piecewise_constant", {}, "needs at least one change, such as at_5_epochs 0.1"),
        ("piecewise_interpolate", {"interpolate_type": "cosine"}, "needs at least one change, such as at_5_epochs 0.1"),
        (3, {}, "must be a str"),
        ("piecewise_constant", {"boundaries_and_scales": 0.1}, "at_5_epochs and so on"),
        ("piecewise_constant", {"at_5_weeks": 0.1}, "at_5_epochs and so on"),
        ("piecewise_constant", {"at_5_epochs": -0.1}, "at least 0"),
        ("piecewise_interpolate", {"interpolate_type": 3.0}, "a word"),
        ("linear", {"at_5_epochs": 0.1}, "choose one of: init_value"),
    ],
)
def test_invalid_words_are_refused(name, numbers, words):
    with pytest.raises(UserError, match=words):
        schedule(name, **numbers)


@pytest.mark.parametrize(
    "chosen",
    [
        schedule("warmup_cosine_decay", warmup_epochs=4),
        schedule("warmup_exponential_decay", warmup_epochs=4, decay_rate=0.1),
        schedule("linear", transition_begin_epochs=5),
        schedule("linear", transition_begin_epochs=5, transition_steps=10),
        schedule("warmup_constant", warmup_epochs=4),
        schedule("warmup_cosine_decay", warmup_fraction=0.5, decay_fraction=0.5),
        schedule("piecewise_interpolate", interpolate_type="quadratic", at_1_epochs=0.1),
        schedule("piecewise_constant", at_2_fraction=0.1),
        schedule("piecewise_constant", at_5_epochs=0.1),
        schedule("piecewise_constant", at_1_epochs=0.1, at_10_steps=0.1),
    ],
    ids=str,
)
def test_schedule_longer_than_the_run_is_refused(chosen):
    with pytest.raises(UserError, match="does not fit a run of 40 steps"):
        chosen.for_run(**LENGTH)


@pytest.mark.parametrize(
    "fields",
    [{"name": 3}, {"numbers": [["a", 1]]}, {"numbers": (("b", 1), ("a", 1))}, {"steps": 0}, {"epochs": True}],
    ids=str,
)
def test_a_value_of_another_form_is_refused(fields):
    with pytest.raises(UserError):
        Schedule(**{"name": "constant", **fields})


def test_a_value_names_what_optax_may_not_have():
    """So that what another version of optax made can be read."""
    unknown = Schedule("of_tomorrow", (("pace", 3.0),))
    assert str(unknown) == "of_tomorrow, pace 3"
    with pytest.raises(UserError, match="Unknown schedule"):
        optimizer("sgd", 0.1, schedule=unknown).transformation()
