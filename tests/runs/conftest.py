"""Checkpoints of a few numbers."""

import numpy as np
import pytest
from helpers.checkpoints import ARRAYS

from mnist_jax.runs.checkpoints import Checkpoints


@pytest.fixture
def notices():
    return []


@pytest.fixture
def checkpoints(tmp_path, notices):
    return Checkpoints(tmp_path / "checkpoints", notify=notices.append)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the checkpoints of two epochs."""
    folder = tmp_path_factory.mktemp("two")
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, {**ARRAYS, "epoch": np.array([epoch])}, [epoch])
    return folder
