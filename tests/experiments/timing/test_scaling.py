"""What is varied, and what an epoch's time might be in proportion to."""

import pytest
from timing import scaling
from timing.scaling import SCALES, at, work

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
def test_each_panel_varies_one_quantity(dataset, varied, value, hidden, batch_size, examples):
    lesson, data = at(MLP, dataset, varied, value)
    assert (lesson.hidden, lesson.batch_size, data.epoch_length) == (hidden, batch_size, examples)


def test_work_is_examples_steps_and_parameters(dataset):
    parameters = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert work(MLP, dataset) == {"examples": 66, "batch_size": 3, "width": parameters}


def test_seconds_of_each_value_are_its_own(dataset, monkeypatch):
    monkeypatch.setattr(scaling, "start", lambda lesson, data: (lesson, data))
    monkeypatch.setattr(scaling, "ours", lambda lesson, data: (data.epoch_length, lesson.batch_size, lesson.hidden[0]))
    monkeypatch.setattr(
        scaling,
        "in_turns",
        lambda contestants, *_: {
            point: {lesson_id: points[point] for lesson_id, points in contestants.items()}
            for point in contestants["adam"]
        },
    )
    found = scaling.scaling_times({"he": LESSONS["he"], "adam": LESSONS["adam"]}, dataset, 1, iter)
    assert found["examples"]["seconds"] == {"adam": [(length, 32, 512) for length in SCALES["examples"]]}
    assert found["batch_size"]["seconds"] == {"adam": [(60_000, size, 512) for size in SCALES["batch_size"]]}
    assert found["width"]["seconds"] == {"adam": [(60_000, 32, 512 * times) for times in SCALES["width"]]}
    assert scaling.scaling_times({"he": LESSONS["he"]}, dataset, 1, iter) == {}
