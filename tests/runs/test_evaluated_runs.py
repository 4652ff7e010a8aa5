import jax
import numpy as np
import pytest

from mnist_jax import LESSONS, evaluate, init_state, predict, train_epoch
from mnist_jax.runs.loop import train_runs
from mnist_jax.runs.records import Run, unpack_bits


def test_right_images_are_recorded_after_the_last_epoch_of_tested_runs(dataset):
    """A run that diverges ends before the others; those that are not tested on the way are not asked."""
    runs = [Run(0, (("learning_rate", rate),)) for rate in (0.01, 1e30)]
    ended = list(train_runs(LESSONS["relu"], dataset, runs, epochs=2, test_every=1))
    recorded = {(epoch.run, epoch.number): epoch for epoch in ended if epoch.right is not None}
    assert set(recorded) == {(runs[0], 2), (runs[1], 1)}
    for epoch in recorded.values():
        right = unpack_bits(epoch.right, dataset.test.size)
        assert right.sum() == epoch.test_correct
    state, length = init_state(LESSONS["relu"], jax.random.key(0), {"learning_rate": 0.01}), dataset.epoch_length
    for _ in range(2):
        state, _ = train_epoch(state, dataset.train, length)
    expected = np.asarray(predict(state, dataset.test.images)) == dataset.test.labels
    np.testing.assert_array_equal(unpack_bits(recorded[runs[0], 2].right, dataset.test.size), expected)
    assert 0 < expected.sum() < dataset.test.size
    assert all(epoch.right is None for epoch in train_runs(LESSONS["relu"], dataset, runs, epochs=2))


def test_validation_loss_is_that_of_the_validation_images(dataset):
    (epoch,) = train_runs(LESSONS["mlp"], dataset, [Run(0)], epochs=1)
    state, _ = train_epoch(init_state(LESSONS["mlp"], jax.random.key(0)), dataset.train, dataset.epoch_length)
    assert epoch.validation_loss == pytest.approx(float(evaluate(state, dataset.validation).loss), rel=1e-6)
