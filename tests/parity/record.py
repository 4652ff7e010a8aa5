"""Record PyTorch's trajectories, so that parity is tested where PyTorch is not installed too.

    python tests/parity/record.py

writes recorded.json beside this file: for every lesson PyTorch's 200 losses and a digest of the end of its run in
float64 (no weights: they come from the seed), and how far the two are apart in float32.
"""

import dataclasses
import json
from pathlib import Path

import torch
from parity_compare import differences, digest
from parity_jax import STEPS, run_jax
from parity_torch import run_torch

from mnist_jax import LESSONS, data
from mnist_jax.runs.provenance import environment

RECORDED = Path(__file__).with_name("recorded.json")


def record() -> dict:
    """Everything in recorded.json."""
    lessons, drift = {}, {}
    for lesson_id, lesson in LESSONS.items():
        start, _ = run_jax(dataclasses.replace(lesson, dtype="float64"))
        lessons[lesson_id] = digest(run_torch(lesson_id, start))
        start, ours = run_jax(lesson)
        theirs = run_torch(lesson_id, start)
        found = differences(ours, theirs)
        drift[lesson_id] = {
            "first_loss": float(abs(ours.losses[0] / theirs.losses[0] - 1)),
            "largest_loss": found["loss"],
            "mean_of_last_50_losses": float(abs(ours.losses[-50:].mean() / theirs.losses[-50:].mean() - 1)),
            "logits": found["logits"],
            "params": max(value for name, value in found.items() if name.startswith("params.")),
        }
    return {
        "made_by": "python tests/parity/record.py",
        "torch": torch.__version__,
        "environment": environment(),
        "steps": STEPS,
        "seed": 0,
        "data_sha256": data.load("sample").sha256,
        "float64": lessons,
        "float32_relative_differences": drift,
    }


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(record(), indent=1) + "\n")
