"""Real digits."""

import numpy as np
import pytest

from mnist_jax import data


@pytest.fixture(scope="session")
def digits():
    """Real digits in MNIST's form, 5 of each."""
    test = data.load("sample").test
    return [test.images[np.flatnonzero(test.labels == label)[i]] for label in range(10) for i in range(5)]
