import dataclasses
import json
import math

import numpy as np
import pytest

from mnist_jax import UserError
from mnist_jax.runs.records import (
    Epoch,
    Run,
    RunRecord,
    ended_runs,
    lesson_entry,
    pack_bits,
    runs_of_seeds,
    unpack_bits,
)

RUN = Run(7, (("learning_rate", 0.1),))


def epochs(*, losses=(0.5, 0.25), validation=(80, 90), tests=((1, 2), (3, 4)), right=(None, None)):
    return [
        Epoch(
            RUN, number, loss, 2 * loss, 10 * number, validated, 1.5, within,
            validation_loss=None if validated is None else 3 * loss, right=bits,
        )
        for number, (loss, validated, within, bits) in enumerate(zip(losses, validation, tests, right, strict=True), 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "found",
    [
        epochs(),
        epochs(validation=(None, None)),
        epochs(tests=((), ())),
        epochs(tests=((), (3,))),
        epochs(validation=(0, 0)),
        epochs(right=(None, "bits")),
        [],
    ],
    ids=["all", "no validation split", "no tests", "no test in an epoch", "none right", "right images", "no epochs"],
)
def test_record_json_round_trip(found):
    record = (
        RunRecord.of_epochs(found)
        if found
        else RunRecord(seed=7, test_correct=[], test_loss=[], train_loss=[], seconds=[], diverged=False)
    )
    values = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert RunRecord.from_json({**values, "stage": "final"}) == record
    assert record.epochs(RUN) == found


def test_non_finite_loss_survives_json():
    record = RunRecord.of_epochs(epochs(losses=(0.5, math.inf)))
    assert record.diverged
    assert record.test_loss == [1.0, None]
    assert math.isnan(record.epochs(RUN)[1].test_loss)
    assert record.epochs(RUN)[1].diverged
    assert RunRecord.of_epochs(record.epochs(RUN)) == record


def test_right_images_are_those_of_the_epoch_in_which_a_run_ended():
    """In a group, a diverged run continues until the others end."""
    lost = epochs(losses=(math.nan, math.nan), right=("first", "second"))
    record = RunRecord.of_epochs(lost)
    assert record.right == "first"
    assert [epoch.right for epoch in record.epochs(RUN)] == ["first", None]
    assert RunRecord.of_epochs(record.epochs(RUN)) == record


def test_validation_losses_that_are_not_known_of_all_epochs_are_left_out():
    """As after a checkpoint of an older version; a loss that is not finite counts as known."""
    old, new = epochs()
    assert RunRecord.of_epochs([dataclasses.replace(old, validation_loss=None), new]).validation_loss is None
    assert RunRecord.of_epochs(epochs(losses=(0.5, math.nan))).validation_loss == [1.5, None]


def test_a_record_without_one_of_its_fields_is_refused():
    values = RunRecord.of_epochs(epochs()).to_json()
    for name in ("seed", "test_correct", "test_loss", "train_loss", "seconds", "diverged"):
        with pytest.raises(KeyError, match=name):
            RunRecord.from_json({key: value for key, value in values.items() if key != name})


def test_lesson_entry_has_one_list_per_run():
    records = [RunRecord.of_epochs(epochs(validation=(None, None), tests=((), ())))] * 2
    assert lesson_entry(records) == {
        "seeds": [7, 7], "validation_correct": None, "test_correct": [[10, 20]] * 2, "test_loss": [[1.0, 0.5]] * 2,
        "train_loss": [[0.5, 0.25]] * 2, "seconds": [[1.5, 1.5]] * 2, "diverged": [False, False],
    }  # fmt: skip


def test_run_ends_after_its_last_epoch_or_when_it_diverges():
    lost = [Epoch(Run(8), 1, math.nan, 1.0, 5, None, 1.5)]
    mixed = [epochs()[0], *lost, epochs()[1]]
    ended = [(epoch.run.seed, epoch.number, record) for epoch, record in ended_runs(mixed, 2)]
    assert ended == [(7, 1, None), (8, 1, RunRecord.of_epochs(lost)), (7, 2, RunRecord.of_epochs(epochs()))]


@pytest.mark.parametrize("seeds", [[], range(10_001), range(10**30)])
def test_too_few_or_too_many_seeds_are_refused(seeds):
    with pytest.raises(UserError, match="seeds must be 1 to 10,000"):
        runs_of_seeds(seeds)


@pytest.mark.parametrize("images", [0, 1, 7, 8, 9, 10_000])
def test_bits_are_the_same_after_json(images):
    right = np.random.default_rng(images).random(images) < 0.98
    text = json.loads(json.dumps(pack_bits(right)))
    found = unpack_bits(text, images)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, right)


def test_bits_of_a_good_run_are_small():
    assert len(pack_bits(np.random.default_rng(0).random(10_000) < 0.98)) < 700


@pytest.mark.parametrize("images", [0, 8, 17])
def test_bits_of_another_number_of_images_are_refused(images):
    with pytest.raises(ValueError, match=f"of {images} images take"):
        unpack_bits(pack_bits(np.ones(16, bool)), images)
