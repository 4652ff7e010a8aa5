"""The lessons are the notebooks': trained side by side with PyTorch, or with what PyTorch was recorded to do."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from parity_compare import TOLERANCE, differences, digest, digest_differences
from parity_jax import STEPS, run_jax
from scipy import stats

import mnist_jax.model
import mnist_jax.train
from mnist_jax import LESSONS, data, init_state, optimizer
from mnist_jax.dropout import Dropout

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text())
DOUBLE = {lesson_id: dataclasses.replace(lesson, dtype="float64") for lesson_id, lesson in LESSONS.items()}
each_lesson = pytest.mark.parametrize("lesson_id", LESSONS)


@pytest.fixture(scope="module")
def torch_side():
    """The PyTorch side; a test that asks for it is skipped without PyTorch."""
    pytest.importorskip("torch")
    import parity_torch

    return parity_torch


@functools.cache
def jax_side(lesson_id, dtype):
    return run_jax(dataclasses.replace(LESSONS[lesson_id], dtype=dtype))


def assert_within(found, tolerance=TOLERANCE):
    assert {name: value for name, value in found.items() if not value <= tolerance} == {}


def test_the_recording_is_of_these_digits_and_lessons():
    assert RECORDED["data_sha256"] == data.load("sample").sha256
    assert list(RECORDED["float64"]) == list(LESSONS)
    assert all(len(entry["losses"]) == RECORDED["steps"] == STEPS for entry in RECORDED["float64"].values())


@each_lesson
def test_200_steps_agree_with_recorded_pytorch(lesson_id):
    _, ours = jax_side(lesson_id, "float64")
    assert_within(digest_differences(ours, RECORDED["float64"][lesson_id]))


@pytest.mark.slow
@each_lesson
def test_200_steps_agree_with_live_pytorch(lesson_id, torch_side):
    start, ours = jax_side(lesson_id, "float64")
    theirs = torch_side.run_torch(lesson_id, start)
    assert len(theirs.losses) == STEPS
    found = differences(ours, theirs)
    assert {"loss", "logits", "params.fc1", "gradients.fc3"} <= set(found)
    assert any(name.startswith("optimizer.") for name in found)
    assert ("batch_stats.batch_norm1" in found) == LESSONS[lesson_id].batch_norm
    assert_within(found)
    assert_within(digest_differences(theirs, RECORDED["float64"][lesson_id]))


@pytest.mark.slow
@each_lesson
def test_float32_drifts_no_further_than_rounding_explains(lesson_id, torch_side):
    start, ours = jax_side(lesson_id, "float32")
    theirs = torch_side.run_torch(lesson_id, start)
    assert abs(ours.losses[0] / theirs.losses[0] - 1) < 1e-5
    # Adam divides rounding noise by its own size (see README.md beside this); SGD does not.
    bound = 0.2 if lesson_id == "adam" else 1e-4
    assert abs(ours.losses[-50:].mean() / theirs.losses[-50:].mean() - 1) < bound


@pytest.mark.parametrize("initialisation", ["pytorch", "he"])
@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
@pytest.mark.parametrize("part", ["kernel", "bias"])
def test_initial_weights_are_distributed_like_pytorch(initialisation, layer, part, torch_side):
    torch = torch_side.torch
    ours, theirs = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for seed in range(8):
            params = init_state(LESSONS["he" if initialisation == "he" else "mlp"], jax.random.key(seed)).params
            ours.append(np.asarray(params[layer][part]).ravel())
            net = torch_side.Net("mlp", torch.float32)
            linear = getattr(net, layer)
            if initialisation == "he":
                torch.nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            theirs.append((linear.weight if part == "kernel" else linear.bias).detach().numpy().ravel())
    assert stats.ks_2samp(np.concatenate(ours), np.concatenate(theirs)).pvalue > 1e-3


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


def loss_sum(monkeypatch):
    mean = mnist_jax.train.cross_entropy
    monkeypatch.setattr(mnist_jax.train, "cross_entropy", lambda x, labels: mean(x, labels) * len(labels))


def dropout_unscaled(monkeypatch):
    real = Dropout.__call__

    def unscaled(self, x, **given):
        return real(self, x, **given) * np.asarray(1 - self.rate, x.dtype)

    monkeypatch.setattr(Dropout, "__call__", unscaled)


BREAKAGES = {
    "momentum 0.51": ("mlp", {"optimizer": optimizer("sgd", 0.01, momentum=0.51)}),
    "learning rate 0.0100001": ("mlp", {"optimizer": optimizer("sgd", 0.0100001, momentum=0.5)}),
    "momentum none": ("mlp", {"optimizer": optimizer("sgd", 0.01)}),
    "Adam b2 0.99": ("adam", {"optimizer": optimizer("adam", 0.01, b2=0.99)}),
    "Adam epsilon 1e-7": ("adam", {"optimizer": optimizer("adam", 0.01, eps=1e-7)}),
    "AdamW for Adam": ("adam", {"optimizer": optimizer("adamw", 0.01)}),
    "tanh for sigmoid": ("mlp", {"activation": "tanh"}),
    "GELU for ReLU": ("relu", {"activation": "gelu"}),
    "float32 for float64": ("relu", {"dtype": "float32"}),
    "batch norm epsilon 1.01e-5": ("batch_norm", batch_norm_with(epsilon=1.01e-5)),
    "batch norm momentum 0.91": ("batch_norm", batch_norm_with(momentum=0.91)),
    "batch norm without scale": ("batch_norm", batch_norm_with(use_scale=False)),
    "initial bias zero": ("mlp", initial_bias_zero),
    "initial kernel He normal": ("relu", initial_kernel_he_normal),
    "loss mean to sum": ("mlp", loss_sum),
    "dropout not scaled": ("dropout", dropout_unscaled),
}


NEED_THE_END = {"batch norm momentum 0.91"}


@pytest.mark.slow
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_parity_detects_each_breakage(breakage, monkeypatch):
    lesson_id, change = BREAKAGES[breakage]
    lesson = DOUBLE[lesson_id]
    if isinstance(change, dict):
        lesson = dataclasses.replace(lesson, **change)
    else:
        change(monkeypatch)
    jax.clear_caches()
    try:
        # Twenty steps of losses show most; what only evaluation sees, or is as small as 1e-5, needs the end.
        _, broken = run_jax(lesson, steps=STEPS if breakage in NEED_THE_END else 20)
        with pytest.raises(AssertionError):
            assert_within(digest_differences(broken, RECORDED["float64"][lesson_id]))
    finally:
        monkeypatch.undo()
        jax.clear_caches()


def test_digest_detects_one_changed_weight():
    _, ours = jax_side("mlp", "float64")
    kernel = ours.end["params"]["fc2"]["kernel"].copy()
    kernel[100, 100] += 1e-6
    changed = dataclasses.replace(
        ours, end={**ours.end, "params": {**ours.end["params"], "fc2": {**ours.end["params"]["fc2"], "kernel": kernel}}}
    )
    assert_within(digest_differences(ours, digest(ours)), 0.0)
    with pytest.raises(AssertionError, match=r"params\.fc2"):
        assert_within(digest_differences(changed, digest(ours)))
