"""What a study writes first into its journal."""

HERE = {"jax": "0.10", "python": "3.11.1", "device": "2 CPU cores"}
HEADER = {
    "study": "train",
    "data": {"sha256": "5"},
    "config": {"epochs": 3, "seeds": (0, 1), "command": "first"},
    "environment": HERE,
}
# What environments say of their program: at two commits, with uncommitted changes, and in old records.
FIRST = {"mnist_jax": "0.1.0", "commit": "1" * 40, "dirty": False, "lock_sha256": "1"}
SECOND = {**FIRST, "commit": "2" * 40}
CHANGED = {**FIRST, "dirty": True}
OLD: dict = {}


def header_in(**environment):
    return {**HEADER, "environment": {**HERE, **environment}}
