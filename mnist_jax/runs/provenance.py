"""What made a result: data, settings, versions and device."""

import contextlib
import dataclasses
import enum
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson

# Settings of JAX that change which numbers are computed, and those that may change how they are rounded.
_NUMERICS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_explicit_x64_dtypes",
    "jax_random_seed_offset",
    "jax_threefry_partitionable",
)
_ROUNDING = (
    "jax_allow_f16_reductions",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_optimization_level",
    "jax_softmax_custom_jvp",
    "jax_use_direct_linearize",
    "jax_use_shardy_partitioner",
)


def command_line(program: str) -> str:
    """What makes this run again, for results.json: `program` with this process's arguments but `--resume`."""
    return f"{program} {shlex.join(argument for argument in sys.argv[1:] if argument != '--resume')}".strip()


def describe_run(
    study: str, data: Dataset, lessons: Mapping[str, Lesson], *, command: str, **settings: Any
) -> dict[str, Any]:
    """What is run, as results.json begins.

    Args:
      study: its name; no other study continues with it.
      data: what is trained on.
      lessons: id -> lesson, as trained or as the study starts from.
      command: what makes these results again.
      settings: seeds, epochs and the like.
    """
    return {
        "study": study,
        "data": {**data.describe(), "where": None if data.where is None else str(data.where)},
        "config": {
            "command": command,
            **settings,
            "lessons": {key: dataclasses.asdict(lesson) for key, lesson in lessons.items()},
            "jax": numerics(),
        },
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Versions, device and settings: what may change how results are rounded, and Python's version."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "python": platform.python_version(),
        "backend": device.platform,
        "backend_version": device.client.platform_version,
        "device": f"{cores} CPU cores" if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "processor": processor(),
        "settings": {
            **{name: os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")},
            **_jax_settings(_ROUNDING),
        },
    }


def environment_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What may make results of two `environment`s differ in rounding: `jax 0.10.2 instead of 0.10.1`."""
    changed = differences({**old, "python": None}, {**new, "python": None})
    return [f"{name} {now} instead of {was}" for name, was, now in changed]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, old value, new value) wherever two nested mappings differ: `("config.epochs", 5, 10)`."""
    found = []
    for name in {**new, **old}:
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += [(f"{name}.{inner}", *values) for inner, *values in differences(was, now)]
        elif was != now:
            found.append((name, was, now))
    return found


def jax_settings_restored(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How to give JAX the settings of an old `describe_run`, where nothing else differs: `set JAX_ENABLE_X64=True`.

    Empty where nothing or something else differs.
    """
    steps = []
    for name, was, _ in differences(old, new):
        if not name.startswith("config.jax."):
            return ""
        setting = name.removeprefix("config.jax.")
        # JAX reads the names of its enumerations in lower case.
        value = was.lower() if isinstance(jax.config.values.get(setting), enum.Enum) else was
        steps.append(f"unset {setting.upper()}" if was is None else f"set {setting.upper()}={value}")
    return " and ".join(steps)


def numerics() -> dict[str, Any]:
    """The settings of JAX that change which numbers are computed, as they are now."""
    return _jax_settings(_NUMERICS)


def _jax_settings(names: Sequence[str]) -> dict[str, Any]:
    """Their values now; of one that this version of JAX lacks, None."""
    values = {name: getattr(jax.config, name, jax.config.values.get(name)) for name in names}
    return {name: value.name if isinstance(value, enum.Enum) else value for name, value in values.items()}


def processor() -> str:
    """The processor's model, or its architecture where that is not known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
