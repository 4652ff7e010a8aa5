"""What a study writes first into its journal."""

HERE = {"jax": "0.10", "python": "3.11.1", "device": "2 CPU cores"}
HEADER = {
    "study": "train",
    "data": {"sha256": "5"},
    "config": {"epochs": 3, "seeds": (0, 1), "command": "first"},
    "environment": HERE,
}


def header_in(**environment):
    return {**HEADER, "environment": {**HERE, **environment}}
