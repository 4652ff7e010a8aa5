"""How long the largest form takes, and how much memory."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers import forms

READ = """
import resource, sys, time
from mnist_jax.data.sources import read_arrays

peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, began = peak(), time.process_time()
arrays = read_arrays(sys.argv[1])
seconds = time.process_time() - began
print(seconds, (peak() - before) / sum(array.nbytes for part in (arrays.train, arrays.test) for array in part))
"""


@pytest.mark.slow
def test_mnist_from_csv_is_fast_and_needs_little_memory(tmp_path):
    """As many rows as MNIST has; seconds of the processor, as others may be at work."""
    train, test = forms.digits()
    for name, part, count in (("mnist_train.csv", train, 60_000), ("mnist_test.csv", test, 10_000)):
        some = forms.frame(part)
        pd.concat([some] * -(-count // len(some)))[:count].to_csv(tmp_path / name, index=False)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", READ, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(np.array(done.stdout.split(), float))
    (first, memory), (again, memory_again) = found
    assert first < 10
    assert again < 0.5
    assert max(memory, memory_again) <= 3
