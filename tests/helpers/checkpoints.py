"""Checkpoints of a few numbers, and what lies in their folders."""

import numpy as np

ARRAYS = {"kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "step": np.array([7], np.int32)}


def assert_same(found, arrays):
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def epoch_of(path):
    return int(path.name.split("-")[0])


def epochs_in(folder):
    """Epochs of the checkpoints that are there."""
    return sorted(map(epoch_of, folder.glob("*.safetensors")))


def file_of(folder, epoch):
    (path,) = folder.glob(f"{epoch}-*.safetensors")
    return path
