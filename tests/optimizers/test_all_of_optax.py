"""Every optimizer of the installed optax, so that those of a newer optax are tested, too."""

import dataclasses
import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import LESSONS, Network, UserError, init_state, logits, optimizer, train_epoch, train_step
from mnist_jax.nets.exchange import pytorch_tensors
from mnist_jax.optimizers import OPTIMIZERS, TRANSFORMATIONS, transformation
from mnist_jax.optimizers.factories import REFUSED
from mnist_jax.optimizers.parameters import parameters
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.states import net_of_arrays, state_arrays, state_of_arrays
from mnist_jax.train import batch_loss, evaluation_params

# As optax says of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")

MODULES = {"": optax, "contrib.": optax.contrib}
QUICK = {"sgd", "lbfgs", "contrib.schedule_free_adamw", "contrib.sophia"}  # of each kind one
EPOCHS = 15  # of two steps
PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}


def bowl(params, obj_fn=None):
    return sum(((part - 3.3) ** 2).sum() for part in jax.tree.leaves(params)) / 4


def each(names, quick=frozenset()):
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in names]


def rate_of(name):
    """Optax's default, or one that suits many."""
    default = inspect.signature(OPTIMIZERS[name]).parameters["learning_rate"].default
    return default if isinstance(default, float) else 0.01


def narrow(lesson_id, chosen, **fields):
    return dataclasses.replace(LESSONS[lesson_id], hidden=(6, 5), optimizer=chosen, **fields)


def test_every_optimizer_of_optax_is_known_or_refused():
    found = {
        f"{prefix}{name}": list(inspect.signature(made).parameters.values())
        for prefix, module in MODULES.items()
        for name in dir(module)
        if inspect.isroutine(made := getattr(module, name)) or isinstance(made, functools.partial)
        if next(iter(inspect.signature(made).parameters), "").endswith("learning_rate")
        if not name.startswith(("_", "scale_by_"))
    }
    assert OPTIMIZERS.keys() <= found.keys()
    for name in found.keys() - OPTIMIZERS.keys():
        assert any(argument.default is argument.empty for argument in found[name][1:])  # what it needs cannot be said
        with pytest.raises(UserError, match=f"{name}"):
            optimizer(name, 0.1)
    assert {"sgd", "nadam", "lbfgs", "contrib.muon", "contrib.dog"} <= OPTIMIZERS.keys()
    assert len(OPTIMIZERS) >= 45


CANNOT = {
    "contrib.dpsgd": "needs the gradient of each single example",
    "contrib.differentially_private_aggregate": "needs the gradient of each single example",
    "contrib.scale_by_muon": "takes matrices only",
    "scale_by_learning_rate": "flips the gradient's sign",
}


@pytest.mark.parametrize("name", [*REFUSED, *CANNOT])
def test_unsupported_optimizers_are_refused_with_a_reason(name):
    for make in (lambda called: optimizer(called, 0.1), transformation):
        for called in (name, name.removeprefix("contrib.")):
            with pytest.raises(UserError, match=rf"^{name} {CANNOT[name]}"):
                make(called)


def test_contrib_may_be_left_out():
    made = [optimizer(name, 0.02).transformation() for name in ("muon", "contrib.muon")]
    chex.assert_trees_all_equal(*(part.init(PARAMS) for part in made))


@pytest.mark.parametrize("name", OPTIMIZERS)
@jax.numpy_dtype_promotion("standard")  # optax itself needs it
def test_each_gives_the_updates_of_optax(name):
    module = MODULES["contrib." if name.startswith("contrib.") else ""]
    factory, rate = getattr(module, name.removeprefix("contrib.")), rate_of(name)
    options = {"key": 0} if "key" in inspect.signature(factory).parameters else {}
    results = []
    for made in (optimizer(name, rate).transformation(), factory(rate, **options)):
        made = optax.with_extra_args_support(made)
        params, state = PARAMS, made.init(PARAMS)
        for _ in range(3):
            value, grads = jax.value_and_grad(bowl)(params)
            extra = {"value": value, "grad": grads, "value_fn": bowl, "obj_fn": bowl}
            updates, state = made.update(grads, state, params, **extra)
            params = optax.apply_updates(params, updates)
        results.append(params)
    chex.assert_trees_all_close(*results, rtol=2e-5)
    assert not np.allclose(results[0]["kernel"], PARAMS["kernel"], rtol=1e-7, atol=0)


@pytest.mark.parametrize(("lesson_id", "side_by_side"), [("he", True), ("mlp", False)])
@pytest.mark.parametrize("name", each(OPTIMIZERS, QUICK))
def test_each_optimizer_resumes_to_identical_results(name, lesson_id, side_by_side, toy, tmp_path):
    lesson, toy = narrow(lesson_id, optimizer(name, rate_of(name))), jax.tree.map(lambda part: part[:64], toy)

    def start(rate):
        return init_state(lesson, jax.random.key(0), {"learning_rate": rate})

    def epoch(state):
        return train_epoch(state, toy)[0]

    def loss(params, before):  # with one dropout mask for all parameters
        return batch_loss(params, before, toy)[0]

    rates = jnp.array([1, 0.5] if side_by_side else 1) * rate_of(name)
    if side_by_side:
        start, epoch, loss = (jax.jit(jax.vmap(function)) for function in (start, epoch, loss))
    state = start(rates)
    for number in range(1, EPOCHS + 1):
        state = epoch(state)
        if number == EPOCHS // 2:
            Checkpoints(tmp_path).save(number, jax.device_get(state_arrays(state)), [])
    before = start(rates)
    assert (loss(state.params, before) < loss(before.params, before)).all()
    saved = Checkpoints(tmp_path).newest()
    resumed = state_of_arrays(saved.arrays, like=state)
    for _ in range(saved.epoch, EPOCHS):
        resumed = epoch(resumed)
    chex.assert_trees_all_equal(state_arrays(resumed), state_arrays(state))


@pytest.mark.parametrize("name", each(TRANSFORMATIONS, {"clip_by_global_norm", "contrib.reduce_on_plateau"}))
def test_each_transformation_may_stand_before_an_optimizer(name, toy):
    needed = {key: 1 for key, found in parameters(TRANSFORMATIONS[name]).items() if found.is_needed}
    needed = {key: {"decay": 0.5, "mask": "kernels"}.get(key, value) for key, value in needed.items()}
    lesson = narrow("he", optimizer("adam", 0.01, chain=(transformation(name, **needed),)))
    state, _ = train_epoch(init_state(lesson, jax.random.key(0)), toy)
    assert jax.tree.all(jax.tree.map(lambda part: bool(jnp.isfinite(part).all()), state.params))
    assert state.opt_state.hyperparams["learning_rate"] == np.float32(0.01)


STATIC = [
    optimizer("adam", 0.01, mu_dtype="float16", nesterov=True),
    optimizer("contrib.schedule_free_sgd", 0.1, state_dtype="float16", warmup_steps=3, weight_decay=0.1),
    optimizer(
        "adafactor", 0.01, min_dim_size_to_factor=2, dtype_momentum="float16", momentum=0.9, weight_decay_rate=0.1
    ),
    optimizer("contrib.muon", 0.02, preconditioning="schatten", adaptive=True, consistent_rms=0.2, ns_steps=3),
    optimizer("contrib.galore", 0.01, rank=3, update_proj_gap=2, mask="kernels"),
    optimizer("lars", 0.1, trust_ratio_mask="kernels", weight_decay_mask=False),
    optimizer("lbfgs", 0.5, memory_size=3, scale_init_precond=False),
    optimizer("adafactor", 0.01, clipping_threshold=None, factored=False),
]


@pytest.mark.parametrize("chosen", [pytest.param(made, id=str(made), marks=pytest.mark.slow) for made in STATIC])
def test_static_values_train_and_are_recorded(chosen, toy, tmp_path):
    state, _ = train_epoch(init_state(narrow("he", chosen), jax.random.key(0)), toy)
    Checkpoints(tmp_path).save(1, jax.device_get(state_arrays(state)), [])
    saved = Checkpoints(tmp_path).newest().arrays
    chex.assert_trees_all_equal(state_arrays(state_of_arrays(saved, like=state)), state_arrays(state))
    read = net_of_arrays(saved, state.lesson, seed=0)
    chex.assert_trees_all_equal(read.params, evaluation_params(state))
    assert jnp.isfinite(logits(read, toy.images)).all()


@pytest.mark.parametrize("name", ["contrib.schedule_free_sgd", "contrib.schedule_free_adamw"])
@pytest.mark.parametrize("chained", [False, True])
def test_schedule_free_nets_are_evaluated_at_optax_point(name, chained, toy):
    chain = (transformation("clip_by_global_norm", 1.0),) if chained else ()
    lesson = narrow("he", optimizer(name, 0.1, b1=0.8, chain=chain))
    state, _ = train_epoch(init_state(lesson, jax.random.key(0)), toy)
    inner = state.opt_state.inner_state[1] if chained else state.opt_state.inner_state
    averages = jax.tree.map(lambda y, z: (y - (1 - 0.8) * z) / 0.8, state.params, inner.z)  # optax's recipe
    chex.assert_trees_all_close(evaluation_params(state), averages, rtol=1e-5, atol=1e-6)
    variables = {"params": averages, "batch_stats": state.batch_stats}
    expected = Network(lesson).apply(variables, toy.images, train=False)
    np.testing.assert_allclose(logits(state, toy.images), expected, rtol=1e-4, atol=1e-5)
    exported = pytorch_tensors(state)
    for layer, arrays in averages.items():
        np.testing.assert_allclose(exported[f"{layer}.bias"], arrays["bias"], rtol=1e-5, atol=1e-6)
    at_gradients = Network(lesson).apply({**variables, "params": state.params}, toy.images, train=False)
    assert abs(at_gradients - expected).max() > 0.01

    read = net_of_arrays(jax.device_get(state_arrays(state)), lesson, seed=0)
    chex.assert_trees_all_equal(read.params, evaluation_params(state))
    np.testing.assert_allclose(logits(read, toy.images), expected, rtol=1e-4, atol=1e-5)


def test_a_net_is_averaged_only_where_all_arrays_of_an_average_are_kept():
    lesson = narrow("mlp", optimizer("sgd", 0.1))
    arrays = jax.device_get(state_arrays(init_state(lesson, jax.random.key(0))))
    read = net_of_arrays({**arrays, "opt_state.inner_state.0.weight_sum": np.float32(1)}, lesson, seed=0)
    chex.assert_trees_all_equal(read.params, net_of_arrays(arrays, lesson, seed=0).params)


@pytest.mark.parametrize("lesson_id", ["he", "adam"])
def test_other_nets_are_evaluated_where_they_are_trained(lesson_id, toy):
    state, _ = train_epoch(init_state(narrow(lesson_id, LESSONS[lesson_id].optimizer), jax.random.key(0)), toy)
    assert evaluation_params(state) is state.params


@pytest.mark.parametrize("name", ["lbfgs", "polyak_sgd", "contrib.momo", "contrib.sophia", "contrib.muon"])
def test_float64_lessons_stay_in_float64(name, toy):
    with jax.enable_x64(True):
        state = init_state(narrow("he", optimizer(name, rate_of(name)), dtype="float64"), jax.random.key(0))
        form = jax.tree.map(lambda part: (part.shape, part.dtype), state)
        after, loss = train_step(state, toy)
    assert loss.dtype == np.float64
    assert jax.tree.map(lambda part: (part.shape, part.dtype), after) == form
