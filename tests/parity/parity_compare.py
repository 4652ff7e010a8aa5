"""How far two runs are apart, live or as recorded."""

import numpy as np
from parity_jax import Run

TOLERANCE = 1e-9


def differences(ours: Run, theirs: Run) -> dict[str, float]:
    """Quantity -> largest relative difference.

    A loss is relative to itself; every other number to the largest of its kind in its layer, kernel and bias
    together: a bias before batch norm has a gradient of zero, of which rounding leaves noise.
    """
    found = {
        "loss": float(np.max(np.abs(ours.losses / theirs.losses - 1))),
        "logits": _relative(centred(ours.logits), centred(theirs.logits)),
    }
    assert ours.end.keys() == theirs.end.keys()
    for quantity, layers in ours.end.items():
        assert layers.keys() == theirs.end[quantity].keys()
        for layer, parts in layers.items():
            other = theirs.end[quantity][layer]
            assert parts.keys() == other.keys()
            scale = max(float(np.abs(part).max()) for part in other.values())
            worst = max(float(np.abs(parts[name] - other[name]).max()) for name in parts)
            found[f"{quantity}.{layer}"] = worst / scale
    return found


def centred(logits: np.ndarray) -> np.ndarray:
    """Without each row's mean: the softmax does not see a constant added to a row, and log-softmax adds one."""
    return logits - logits.mean(1, keepdims=True)


def digest(run: Run) -> dict[str, object]:
    """A run in a few numbers: every loss, and of each array its norm and its product with a fixed pattern."""
    return {
        "losses": run.losses.tolist(),
        "logits": _digest(centred(run.logits)),
        "end": {
            quantity: {
                layer: {name: _digest(part) for name, part in sorted(parts.items())}
                for layer, parts in sorted(layers.items())
            }
            for quantity, layers in sorted(run.end.items())
        },
    }


def digest_differences(run: Run, recorded: dict) -> dict[str, float]:
    """Quantity -> largest relative difference between a run and a recorded digest; scales as in `differences`."""
    ours = digest(run)
    steps = len(ours["losses"])
    found = {
        "loss": float(np.max(np.abs(np.array(ours["losses"]) / np.array(recorded["losses"][:steps]) - 1))),
    }
    if steps < len(recorded["losses"]):
        return found
    found["logits"] = _relative(np.array(ours["logits"]), np.array(recorded["logits"]))
    assert ours["end"].keys() == recorded["end"].keys()
    for quantity, layers in ours["end"].items():
        for layer, parts in layers.items():
            other = recorded["end"][quantity][layer]
            scale = max(abs(value) for part in other.values() for value in part)
            worst = max(abs(a - b) for name in parts for a, b in zip(parts[name], other[name], strict=True))
            found[f"{quantity}.{layer}"] = worst / scale
    return found


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _digest(array: np.ndarray) -> list[float]:
    flat = array.astype(np.float64).ravel()
    return [float(np.linalg.norm(flat)), float(flat @ np.cos(np.arange(flat.size)))]
