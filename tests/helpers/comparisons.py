"""results.json of comparisons that never ran, drawn from a fixed generator."""

import numpy as np

from mnist_jax.runs.records import pack_bits
from mnist_jax.studies.spaces import SPACES

EPOCHS, EVERY, STEPS_PER_EPOCH = 5, 250, 1719
VALIDATION, SEEDS = 5_000, 20
CONFIRMED = 4
BEST = {"sgd": 0.1, "lion": 1e-4, "adagrad": 0.05}  # learning rates, of sgd over 1 - momentum; else 0.001


def comparison(nets=("mlp", "he"), labels=("sgd", "adam"), *, images=400, trials=32, leads=None, seed=0, **config):
    """A comparison of these optimizers on these nets.

    Args:
      nets: ids of lessons.
      labels: names of optimizers.
      images: number of test images.
      trials: number of trials drawn for each optimizer, besides trial 0.
      leads: label -> by how much its setting is better, in standard deviations of what decides about an image.
      seed: seed of the generator.
      config: further values of `config`.
    """
    rng = np.random.default_rng(seed)
    described = {
        "command": "python experiments/sgd_vs_adam.py",
        "lessons": {net: {} for net in nets},
        "epochs": EPOCHS,
        "trials": trials,
        "quick": False,
        "seeds": {"trials": 0, "confirmation": [1000, 1001, 1002], "finals": list(range(2000, 2000 + SEEDS))},
        "test_every": EVERY,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "confidence": 0.95,
        "margin": 0.1,
        "spaces": {label: SPACES[label].to_json() for label in labels},
        **config,
    }
    sizes = {"train": 55_000, "validation": VALIDATION, "test": images, "epoch_length": 55_000}
    return {
        "study": "sgd_vs_adam",
        "data": {"name": "MNIST", "source": "folder", "split": "slides", **sizes, "sha256": "0" * 64},
        "config": described,
        "environment": {"device": "2 CPU cores"},
        "nets": {
            net: {label: _entry(rng, (net, label), images, trials, (leads or {}).get(label, 0.0)) for label in labels}
            for net in nets
        },
        **({"mechanism": {label: _mechanism(rng) for label in labels}} if len(labels) == 2 else {}),
    }


def _entry(rng, name, images, trials, lead):
    net, label = name
    settings = SPACES[label].trials("MNIST", net, trials)
    tried = [_trial(rng, number, label, setting, images) for number, setting in enumerate(settings)]
    best = sorted(tried, key=lambda trial: -trial["validation_correct"][-1])[:CONFIRMED]
    confirmation = [
        {
            "number": trial["number"],
            "validation_correct": [trial["validation_correct"][-1] + int(rng.integers(-3, 2)) for _ in range(3)],
            "validation_loss": [0.07] * 3,
            "diverged": [False] * 3,
        }
        for trial in best
    ]
    chosen = max(confirmation, key=lambda trial: sum(trial["validation_correct"]))["number"]
    found = {"trials": tried, "confirmation": confirmation, "chosen": chosen, "final": _final(rng, images, lead)}
    return (
        found if label not in ("sgd", "adam") or chosen == 0 else {**found, "course": _final(rng, images, lead - 0.3)}
    )


def _trial(rng, number, label, settings, images):
    """Better the nearer its rate is to the best one, at chance far from it; validation rises as test accuracy falls."""
    rate = settings["learning_rate"] / (1 - settings.get("momentum", 0) if label == "sgd" else 1)
    distance = abs(np.log10(rate / BEST.get(label, 1e-3)))
    accuracy = 0.1 if distance > 1.7 else 0.96 - 0.01 * distance**2
    curve = accuracy - 0.03 * (accuracy > 0.5) / np.arange(1, EPOCHS + 1)
    return {
        "number": number,
        "seed": number,
        "settings": settings,
        "validation_correct": rng.binomial(VALIDATION, curve).tolist(),
        "validation_loss": (0.1 + distance * rng.uniform(0.05, 0.06, EPOCHS)).tolist(),
        "test_correct": rng.binomial(images, curve[::-1]).tolist(),
        "diverged": False,
    }


def _final(rng, images, lead):
    """Runs on images of the same difficulty for all; about 96.5 % right."""
    difficulty = np.random.default_rng(99).normal(0, 4, images)
    right = difficulty + rng.normal(0, 0.1, (SEEDS, 1)) + rng.normal(0, 1, (SEEDS, images)) < 7.5 + lead
    ends = right.sum(1)
    approach = 1 - 0.1 / np.arange(1, EPOCHS * 7 + 1)
    on_the_way = (ends[:, None] * approach).astype(int).reshape(SEEDS, EPOCHS, 7)
    return {
        "seeds": list(range(2000, 2000 + SEEDS)),
        "test_correct": [[*run[:-1].tolist(), int(end)] for run, end in zip(on_the_way[:, :, -1], ends, strict=True)],
        "test_loss": [[0.2, 0.15, 0.12, 0.11, 0.1]] * SEEDS,
        "train_loss": [[0.3, 0.2, 0.12, 0.1, 0.08]] * SEEDS,
        "tests": on_the_way[:, :, :-1].tolist(),
        "right": [pack_bits(run) for run in right],
        "diverged": [False] * SEEDS,
    }


def _mechanism(rng):
    steps = np.unique(np.geomspace(1, EPOCHS * STEPS_PER_EPOCH, 40).round().astype(int))
    return {
        "steps": steps.tolist(),
        "layers": {
            f"fc{layer}": {
                "update_to_weight": (0.02 / layer * steps**-0.4 * rng.uniform(0.9, 1.1, steps.size)).tolist(),
                "gradient": (0.001 * layer * steps**-0.3 * rng.uniform(0.9, 1.1, steps.size)).tolist(),
            }
            for layer in (1, 2, 3)
        },
    }
