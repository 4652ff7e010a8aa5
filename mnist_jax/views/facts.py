"""What made a run, in names and values."""

from collections.abc import Mapping
from typing import Any

from mnist_jax.runs.provenance import environment_changes, program
from mnist_jax.views.languages import ENGLISH, Words
from mnist_jax.views.words import data_words, device_name

# Of an environment: what is shown of it, in the order of names.
_MADE_WITH = {
    "Lock": ("lock_sha256",),
    "Versions": ("jax", "jaxlib", "flax", "optax", "numpy", "python"),
    "System": ("system", "processor", "cores"),
    "Device": ("device", "devices", "processes", "backend_version", "driver"),
}


def facts(results: Mapping[str, Any], words: Words = ENGLISH) -> list[tuple[str, str]]:
    """How the run can be made again, in names and values."""
    config, environment = results["config"], results["environment"]
    imported = config.get("imported")
    found = [
        ("Command", config.get("command", words["not_recorded"])),
        *([("Imported from", f"{imported['file']}, SHA-256 {imported['sha256']}")] if imported else []),
        ("Data", f"{data_words(results['data'], words)}, SHA-256 {results['data']['sha256']}"),
        *_made_with(config, environment, words),
        *(("Resumed with", _resumed_with(environment, other, words)) for other in results.get("resumed_in", [])),
    ]
    return [(words[title], said) for title, said in found]


def _made_with(config: Mapping[str, Any], environment: Mapping[str, Any], words: Words) -> list[tuple[str, str]]:
    """Program, versions, machine and settings; of an old record what it says."""
    settings = {**config.get("jax", {}), **environment.get("settings", {})}
    found = [
        ("Program", program(environment, words["uncommitted"])),
        *(
            (title, ", ".join(_part(name, environment[name], words) for name in names if environment.get(name)))
            for title, names in _MADE_WITH.items()
        ),
        ("Settings", ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)),
    ]
    return [(title, said) for title, said in found if said]


def _part(name: str, value: Any, words: Words) -> str:
    """A value of an environment, with its name where that is no matter of course."""
    if name in ("system", "processor"):
        return str(value)
    if name == "device":
        return device_name(value, words)
    if name == "lock_sha256":
        return f"requirements.lock, SHA-256 {value}"
    return words.get(name, f"{name} {{value}}").format(value=value)


def _resumed_with(first: Mapping[str, Any], other: Mapping[str, Any], words: Words) -> str:
    """In what an environment in which a run was resumed differs from its first one."""
    another = [program(other, words["uncommitted"])] if program(other) not in ("", program(first)) else []
    return ", ".join([*another, *environment_changes(first, other, words["now"])])
