"""Two toy data sets, and whether examples are equal."""

import numpy as np

from helpers import toy_digits

TRAIN, TEST = toy_digits(60), toy_digits(20, seed=1)


def same(examples, other):
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(examples, other, strict=True))
