"""What made a run, in names and values."""

from collections.abc import Mapping
from typing import Any

from mnist_jax.runs.provenance import environment_changes, program
from mnist_jax.views.words import data_words

# Of an environment: what is shown of it, field by field.
_MADE_WITH = {
    "Lock": {"lock_sha256": "requirements.lock, SHA-256 {}"},
    "Versions": {name: f"{name} {{}}" for name in ("jax", "jaxlib", "flax", "optax", "numpy", "python")},
    "System": {"system": "{}", "processor": "{}", "cores": "cores {}"},
    "Device": {
        "device": "{}",
        "devices": "devices {}",
        "processes": "processes {}",
        "backend_version": "backend {}",
        "driver": "NVIDIA driver {}",
    },
}


def facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the run can be made again, in names and values."""
    config, environment = results["config"], results["environment"]
    imported = config.get("imported")
    return [
        ("Command", config.get("command", "not recorded")),
        *([("Imported from", f"{imported['file']}, SHA-256 {imported['sha256']}")] if imported else []),
        ("Data", f"{data_words(results['data'])}, SHA-256 {results['data']['sha256']}"),
        *_made_with(config, environment),
        *(("Resumed with", _resumed_with(environment, other)) for other in results.get("resumed_in", [])),
    ]


def _made_with(config: Mapping[str, Any], environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Program, versions, machine and settings; of an old record what it says."""
    settings = {**config.get("jax", {}), **environment.get("settings", {})}
    found = [
        ("Program", program(environment)),
        *(
            (title, ", ".join(form.format(environment[name]) for name, form in forms.items() if environment.get(name)))
            for title, forms in _MADE_WITH.items()
        ),
        ("Settings", ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)),
    ]
    return [(title, words) for title, words in found if words]


def _resumed_with(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what an environment in which a run was resumed differs from its first one."""
    another = [program(other)] if program(other) not in ("", program(first)) else []
    return ", ".join([*another, *environment_changes(first, other)])
