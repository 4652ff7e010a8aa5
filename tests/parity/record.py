"""Record PyTorch's trajectories and ours, for `mnist-jax verify` and for tests where PyTorch is not installed.

    python tests/parity/record.py

writes mnist_jax/studies/trajectories.json: for every lesson PyTorch's 200 losses and a digest of the end of its run in
float64 (no weights: they come from the seed); ours in float32, with a digest after 20 steps and the SHA-256 of the end;
and how far PyTorch's float32 is from ours.
"""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import torch
from parity_jax import start_of
from parity_torch import run_torch

from mnist_jax import LESSONS, data
from mnist_jax.runs.provenance import environment
from mnist_jax.studies.verification import EARLY, STEPS, Trajectory, differences, digested, sha256, trained

RECORDED = Path(__file__).parents[2] / "mnist_jax" / "studies" / "trajectories.json"


def record() -> dict:
    """Everything in trajectories.json."""
    double, single, apart = {}, {}, {}
    digits = data.load("sample")
    for lesson_id, lesson in LESSONS.items():
        exact = dataclasses.replace(lesson, dtype="float64")
        double[lesson_id] = as_json(digested(run_torch(lesson_id, start_of(exact, digits))), digits=17)
        ours = trained(lesson, digits)
        early = digested(trained(lesson, digits, EARLY))
        single[lesson_id] = as_json(Trajectory(ours.losses, early.end), digits=9) | {"sha256": sha256(ours)}
        assert np.array_equal(np.array(single[lesson_id]["losses"], np.float32), ours.losses)
        apart[lesson_id] = drift(ours, run_torch(lesson_id, start_of(lesson, digits)))
    return {
        "made_by": "python tests/parity/record.py",
        "torch": torch.__version__,
        "environment": environment(),
        "steps": STEPS,
        "early_steps": EARLY,
        "seed": 0,
        "data_sha256": digits.sha256,
        "float64": double,
        "float32": single,
        "float32_relative_differences": apart,
    }


def as_json(trajectory: Trajectory, *, digits: int) -> dict:
    """Numbers with this many significant digits: 17 distinguish all float64, 9 all float32."""
    return jax.tree.map(lambda array: [float(f"{number:.{digits}g}") for number in array], trajectory._asdict())


def drift(ours: Trajectory, theirs: Trajectory) -> dict:
    """The README's table."""
    found = differences(ours, theirs)
    late, their_late = (run.losses[-50:].mean(dtype=np.float64) for run in (ours, theirs))
    return {
        "first_loss": float(abs(ours.losses[0] / theirs.losses[0] - 1)),
        "largest_loss": found["losses"],
        "mean_of_last_50_losses": float(abs(late / their_late - 1)),
        "logits": found["logits.last"],
        "params": max(value for name, value in found.items() if name.startswith("params.")),
    }


if __name__ == "__main__":
    # An array of numbers on one line.
    RECORDED.write_text(
        re.sub(r"\[[^\[\]]*\]", lambda array: " ".join(array[0].split()), json.dumps(record(), indent=1)) + "\n"
    )
