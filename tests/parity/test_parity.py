"""The lessons are the notebooks': trained side by side with PyTorch.

tests/studies/test_verification.py compares with what PyTorch was recorded to do, and breaks things on purpose.
"""

import dataclasses

import jax
import numpy as np
import pytest
from parity_jax import start_of
from scipy import stats

from mnist_jax import LESSONS, data, init_state
from mnist_jax.studies.verification import STEPS, differences, digested, recorded_trajectory, trained

TOLERANCE = 1e-9
each_lesson = pytest.mark.parametrize("lesson_id", LESSONS)


@pytest.fixture(scope="module")
def torch_side():
    """The PyTorch side; a test that asks for it is skipped without PyTorch."""
    pytest.importorskip("torch")
    import parity_torch

    return parity_torch


def both_sides(lesson_id, dtype, torch_side):
    lesson, digits = dataclasses.replace(LESSONS[lesson_id], dtype=dtype), data.load("sample")
    return trained(lesson, digits), torch_side.run_torch(lesson_id, start_of(lesson, digits))


@pytest.mark.slow
@each_lesson
def test_200_steps_agree_with_live_pytorch(lesson_id, torch_side):
    ours, theirs = both_sides(lesson_id, "float64", torch_side)
    assert len(theirs.losses) == STEPS
    found = differences(ours, theirs)
    assert {"losses", "logits.last", "params.fc1", "gradients.fc3"} <= set(found)
    assert any(name.startswith("optimizer.") for name in found)
    assert ("batch_stats.batch_norm1" in found) == LESSONS[lesson_id].batch_norm
    assert max(found.values()) < TOLERANCE, found
    again = differences(digested(theirs), recorded_trajectory(lesson_id, "float64"))
    assert max(again.values()) < TOLERANCE, again


@pytest.mark.slow
@each_lesson
def test_float32_drifts_no_further_than_rounding_explains(lesson_id, torch_side):
    ours, theirs = both_sides(lesson_id, "float32", torch_side)
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
