"""What is varied, and what an epoch's time might be in proportion to."""

import pytest
from timing.scaling import at, work

from mnist_jax import LESSONS

MLP = LESSONS["mlp"]


@pytest.mark.parametrize(
    ("varied", "value", "hidden", "batch_size", "examples"),
    [
        ("examples", 3_750, (512, 256), 32, 3_750),
        ("batch_size", 128, (512, 256), 128, 60_000),
        ("width", 0.5, (256, 128), 32, 60_000),
        ("width", 0.001, (1, 1), 32, 60_000),
    ],
)
def test_one_thing_is_varied(dataset, varied, value, hidden, batch_size, examples):
    lesson, data = at(MLP, dataset, varied, value)
    assert (lesson.hidden, lesson.batch_size, data.epoch_length) == (hidden, batch_size, examples)


def test_work_is_examples_steps_and_parameters(dataset):
    parameters = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert work(MLP, dataset) == {"examples": 66, "batch_size": 3, "width": parameters}
