import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mnist_jax import LESSONS, OPTIMIZERS, Optimizer, UserError, init_state, optimizer
from mnist_jax.optimizers import Transformation, hyperparameter_names, transformation

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: 0.1 * p + 0.3, PARAMS)


def test_sgd_with_momentum_matches_pytorch():
    rate, momentum = 0.1, 0.5
    transformation = optimizer("sgd", rate, momentum=momentum).transformation()
    state, expected, velocity = transformation.init(PARAMS), PARAMS, jax.tree.map(jnp.zeros_like, PARAMS)
    params = PARAMS
    for _ in range(4):
        updates, state = transformation.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, GRADS)
        expected = jax.tree.map(lambda p, v: p - rate * v, expected, velocity)
    chex.assert_trees_all_close(params, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hyperparameters_are_traced_values_of_the_state(name):
    numbers = optimizer(name, 0.25).transformation().init(PARAMS).hyperparams
    assert numbers["learning_rate"] == 0.25
    assert set(numbers) <= {"learning_rate", *hyperparameter_names(name)}


def test_whole_numbers_are_held_as_floats():
    whole, floating = (optimizer("sgd", one, momentum=0 * one).transformation().init(PARAMS) for one in (1, 1.0))
    chex.assert_trees_all_equal(whole, floating)
    chex.assert_trees_all_equal_dtypes(whole, floating)


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adamw"])
def test_each_number_of_a_tuple_is_traced_by_a_name_of_its_own(name):
    chosen = optimizer(name, 1.0, betas_1=0.5, betas_2=0.75)
    own, made = chosen.transformation({"betas_2": 0.25}), getattr(optax.contrib, name)(1.0, betas=(0.5, 0.25))
    state, expected = own.init(PARAMS), made.init(PARAMS)
    assert {key: float(state.hyperparams[key]) for key in ("betas_1", "betas_2")} == {"betas_1": 0.5, "betas_2": 0.25}
    params, wanted = PARAMS, PARAMS
    for _ in range(3):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = own.update(GRADS, state, params)
            others, expected = made.update(GRADS, expected, wanted)
        params, wanted = optax.apply_updates(params, updates), optax.apply_updates(wanted, others)
    chex.assert_trees_all_close(params, wanted, rtol=1e-6)
    assert "betas" not in hyperparameter_names(name)
    with pytest.raises(UserError, match="betas_1 must be a Python number at least 0 and below 1"):
        optimizer(name, 1.0, betas_1=1.0)


def test_each_optimizer_has_its_own_hyperparameters():
    assert hyperparameter_names("sgd") == ["accumulator_dtype", "momentum", "nesterov"]
    assert {"b1", "b2", "eps"} <= set(hyperparameter_names("adam"))
    assert "weight_decay" in hyperparameter_names("adamw")
    assert str(optimizer("adam", 0.01, b2=0.99, b1=0.8)) == "adam 0.01, b1 0.8, b2 0.99"
    assert optimizer("adam", 0.01, b2=0.99, b1=0.8) == Optimizer("adam", 0.01, (("b1", 0.8), ("b2", 0.99)))


def test_the_key_of_random_numbers_is_the_one_given():
    def update(key):
        made = optimizer("noisy_sgd", 0.1, key=key).transformation()
        with jax.numpy_dtype_promotion("standard"):
            return made.update(PARAMS, made.init(PARAMS), PARAMS)[0]

    chex.assert_trees_all_equal(update(1), update(1))
    assert not jax.tree.all(jax.tree.map(jnp.array_equal, update(1), update(2)))


def test_a_dtype_is_that_of_the_state():
    kept = optimizer("adam", 0.1, mu_dtype="float16").transformation().init(PARAMS).inner_state[0].mu
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {np.dtype("float16")}


def test_what_has_two_names_is_one_value():
    assert optimizer("muon", 0.02) == optimizer("contrib.muon", 0.02)
    assert transformation("normalize") == transformation("contrib.normalize")
    assert optimizer("adam", 0.01).name == "adam"


@pytest.mark.parametrize(
    ("name", "rate", "numbers", "says"),
    [
        ("adman", 0.01, {}, r"'adman'.*adam, .*adamw, .*sgd, .*yogi, .*contrib.muon, "),
        ("sgd", 0.0, {}, "above 0"),
        ("sgd", -1.0, {}, "above 0"),
        ("sgd", float("nan"), {}, "above 0"),
        ("sgd", float("inf"), {}, "above 0"),
        ("sgd", 1e39, {}, "float32"),
        ("sgd", 1e-46, {}, "float32"),
        ("sgd", 0.01, {"learning_rate": 0.1}, "momentum"),
        ("sgd", 0.01, {"name": 1}, "momentum"),
        ("adam", 0.01, {"momentum": 0.5}, r"'momentum'.*b1, b2, eps"),
        ("sgd", "0.01", {}, "above 0"),
        ("sgd", True, {}, "above 0"),
        ("sgd", np.float32(0.1), {}, r"Python number above 0 .*not np.float32\(0.1\)"),
        ("sgd", 0.1, {"momentum": np.float32(0.5)}, "'momentum' must be a Python number"),
        ("sgd", 0.1, {"momentum": "0.5"}, "momentum must be a Python number"),
        ("sgd", 0.1, {"nesterov": 1}, "nesterov must be True or False, not 1"),
        ("sgd", 0.1, {"accumulator_dtype": "int8"}, "choose one of: float16, float32"),
        ("sgd", 0.1, {"accumulator_dtype": True}, "must be float16 or float32"),
        ("adafactor", 0.1, {"min_dim_size_to_factor": 0}, "whole number of at least 1, not 0"),
        ("adafactor", 0.1, {"min_dim_size_to_factor": 2**31}, "whole number"),
        ("adafactor", 0.1, {"min_dim_size_to_factor": 8.0}, "whole number"),
        ("contrib.schedule_free_sgd", 0.1, {"warmup_steps": 0}, "whole number of at least 1"),
        ("adamw", 0.1, {"mask": "biases"}, "'biases'; choose one of: kernels"),
        ("adamw", 0.1, {"mask": True}, "must be kernels"),
        ("muon", 0.1, {"preconditioning": "none"}, "frobenius, spectral"),
        ("muon", 0.1, {"ns_coeffs": 1.0}, "'ns_coeffs'; choose one of: adam_b1, "),
        ("noisy_sgd", 0.1, {"seed": 1}, "'seed'; choose one of: eta, gamma, key"),
        ("sgd", None, {}, "above 0"),
        ("sgd", 10**400, {}, "above 0"),
        ("contrib.schedule_free_sgd", 0.1, {"b1": 0.0}, "divides by b1, which must be above 0"),
        ("sign_sgd", 0.01, {"momentum": 0.5}, "sign_sgd has nothing that can be set; 'momentum' was given"),
        ("contrib.prodigy", 1.0, {"beta3": 1.5}, "below 1"),
        ("sgd", 0.01, {"chain": transformation("zero_nans")}, "must be a tuple"),
        ("sgd", 0.01, {"chain": None}, "must be a tuple"),
        ("adam", 0.01, {"\r": 1e39}, r"'\\r' must be a Python number"),
        ("adam", 0.01, {"\n": 1.0}, r"'\\n'; choose one of"),
        ("a\nb", 0.01, {}, r"'a\\nb'; choose one of"),
        (["sgd"], 0.01, {}, r"must be a str, not \['sgd'\]"),
        ("sgd", 0.01, {"momentum": 1.0}, "below 1"),
        ("sgd", 0.01, {"momentum": 1 - 1e-9}, "below 1 that float32 holds"),
        ("adam", 0.01, {"b2": 1 - 1e-9}, "below 1 that float32 holds"),
        ("adam", 0.01, {"eps": 1e-46}, "float32"),
        ("adam", 0.01, {"eps": 1e39}, "float32"),
        ("adam", 0.01, {"eps": "1"}, "must be a Python number"),
        ("adam", 0.01, {"b1": False}, "must be a Python number"),
        ("adam", 0.01, {"b1": None}, "must be a Python number"),
        ("adam", 0.01, {"b1": -0.1}, "at least 0"),
        ("adamw", 0.01, {"weight_decay": float("nan")}, "float32"),
    ],
)
def test_invalid_values_are_refused(name, rate, numbers, says):
    with pytest.raises(UserError, match=says) as refused:
        optimizer(name, rate, **numbers)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({"b1": 0.5}, "pairs"),
        ([("b1", 0.5)], "pairs"),
        (("b1", 0.5), "pairs"),
        ((("b1", 0.5, 1),), "pairs"),
        ((("b2", 0.5), ("b1", 0.5)), "in the order of their names"),
        ((("b1", 0.5), ("b1", 0.6)), "once"),
        (((1, 0.5), ("b1", 0.6)), "pairs"),
    ],
)
def test_malformed_hyperparameters_are_refused(pairs, says):
    with pytest.raises(UserError, match=says):
        Optimizer("adam", 0.01, pairs)


def test_unknown_hyperparameter_cannot_be_traced():
    with pytest.raises(UserError, match="momentum"):
        optimizer("sgd", 0.1).transformation({"momentum": 0.5})
    with pytest.raises(UserError, match="traced hyperparameter of sgd 'momentum'"):
        optimizer("sgd", 0.1).check({"momentum": 0.5})
    optimizer("sgd", 0.1, momentum=0.9).check({"momentum": 0.5})


def test_what_changes_the_program_is_static():
    chosen = optimizer("adafactor", 0.1, min_dim_size_to_factor=2, factored=False, momentum=0.5)
    state = chosen.transformation().init(PARAMS)
    assert not {"min_dim_size_to_factor", "factored"} & set(state.hyperparams)
    assert state.hyperparams["momentum"] == 0.5
    assert len({chosen, optimizer("adafactor", 0.1, min_dim_size_to_factor=2, factored=True, momentum=0.5)}) == 2
    for key in ("factored", "min_dim_size_to_factor"):
        with pytest.raises(UserError, match=f"traced hyperparameter of adafactor '{key}'"):
            chosen.transformation({key: 1})
    assert "clipping_threshold" in state.hyperparams
    without = optimizer("adafactor", 0.1, clipping_threshold=None).transformation().init(PARAMS)
    assert "clipping_threshold" not in without.hyperparams
    assert str(chosen) == "adafactor 0.1, factored false, min_dim_size_to_factor 2, momentum 0.5"


def test_a_factor_may_be_1_where_an_average_may_not():
    assert optimizer("optimistic_adam_v2", 0.1, beta=1.0).hyperparameters == (("beta", 1.0),)
    with pytest.raises(UserError, match="below 1"):
        optimizer("signum", 0.1, beta=1.0)


def test_a_static_value_reaches_optax():
    updates = [
        made.update(GRADS, made.init(PARAMS), PARAMS)[0]
        for made in (
            optimizer("sgd", 0.1, momentum=0.9, nesterov=True).transformation(),
            optax.sgd(0.1, momentum=0.9, nesterov=True),
            optax.sgd(0.1, momentum=0.9),
        )
    ]
    chex.assert_trees_all_close(updates[0], updates[1])
    assert not np.allclose(updates[0]["bias"], updates[2]["bias"])


def test_weight_decay_of_kernels_leaves_biases_and_batch_norm_alone():
    params = init_state(dataclasses.replace(LESSONS["he"], hidden=(3,)), jax.random.key(0)).params
    params = jax.tree.map(lambda part: part + 1, params)
    still = jax.tree.map(jnp.zeros_like, params)
    for chosen in (
        optimizer("adamw", 0.1, weight_decay=0.5, mask="kernels"),
        optimizer("sgd", 0.1, chain=(transformation("add_decayed_weights", 0.5, mask="kernels"),)),
    ):
        made = chosen.transformation()
        with jax.numpy_dtype_promotion("standard"):  # as in training
            updates, _ = made.update(still, made.init(params), params)
        for layer, arrays in updates.items():
            for name, array in arrays.items():
                expected = -0.05 * params[layer][name] if name == "kernel" else still[layer][name]
                np.testing.assert_allclose(array, expected, rtol=1e-6)


def test_a_chain_transforms_gradients_before_the_optimizer():
    chain = (transformation("clip_by_global_norm", 0.25), transformation("scale", step_size=2.0))
    made = optimizer("sgd", 0.5, chain=chain).transformation({"learning_rate": jnp.float32(0.1)})
    updates, state = made.update(GRADS, made.init(PARAMS), PARAMS)
    norm = optax.tree.norm(GRADS)
    assert norm > 0.25
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: -0.1 * 2 * g * 0.25 / norm, GRADS), rtol=1e-6)
    assert state.hyperparams.keys() == {"learning_rate"}
    assert str(optimizer("sgd", 0.5, chain=chain)) == (
        "clip_by_global_norm, max_norm 0.25, then scale, step_size 2, then sgd 0.5"
    )
    assert optimizer("sgd", 0.5, momentum=0.9, chain=chain[:1]).label == (
        "clip_by_global_norm, max_norm 0.25, then sgd, momentum 0.9"
    )


@pytest.mark.parametrize(
    ("name", "values", "arguments", "says"),
    [
        ("clip_by_norm", (1.0,), {}, r"Unknown transformation 'clip_by_norm'.*clip_by_global_norm"),
        ("adam", (1.0,), {}, "Unknown transformation 'adam'"),
        ("clip_by_global_norm", (), {}, "clip_by_global_norm needs max_norm"),
        ("clip_by_global_norm", (1.0, 2.0), {}, "these arguments, in this order: max_norm; 2 were given"),
        ("clip_by_global_norm", (1.0,), {"max_norm": 1.0}, "max_norm twice"),
        ("clip_by_global_norm", (-1.0,), {}, "at least 0"),
        ("clip_by_global_norm", (1.0,), {"norm": 1.0}, "'norm'; choose one of: max_norm"),
        ("zero_nans", (1.0,), {}, "takes no arguments; 1 were given"),
    ],
)
def test_invalid_transformations_are_refused(name, values, arguments, says):
    with pytest.raises(UserError, match=says):
        transformation(name, *values, **arguments)


def test_an_invalid_link_of_a_chain_is_refused():
    for link in (Transformation("cut"), Transformation("clip_by_global_norm")):
        with pytest.raises(UserError, match=r"'cut'|needs max_norm"):
            optimizer("sgd", 0.1, chain=(link,))


def test_a_value_is_read_without_looking_up_what_it_names():
    kept = Optimizer("mine:made", 0.1, (("gain", 2.0), ("on", True)), chain=(Transformation("cut", (("at", None),)),))
    for refused in (kept.check, kept.transformation, kept.chain[0].check, kept.chain[0].transformation):
        with pytest.raises(UserError, match="Unknown"):
            refused()
