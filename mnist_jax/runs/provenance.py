"""What made a result: data, settings, program, versions and device."""

import contextlib
import enum
import functools
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from mnist_jax.data import Dataset
from mnist_jax.lessons import Lesson, lesson_to_json
from mnist_jax.runs.checkout import checkout

# Settings of JAX that change which numbers are computed, and those that may change how they are rounded. No version of
# JAX has all.
_NUMERICS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_explicit_x64_dtypes",
    "jax_random_seed_offset",
    "jax_threefry_partitionable",
)
_ROUNDING = (
    "eager_constant_folding",
    "jax_accurate_erf_inv",
    "jax_allow_f16_reductions",
    "jax_compiler_enable_remat_pass",
    "jax_cpu_collectives_implementation",
    "jax_custom_jvp3",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
    "jax_memory_fitting_level",
    "jax_optimization_level",
    "jax_scan3",
    "jax_softmax_custom_jvp",
    "jax_use_direct_linearize",
    "jax_use_hlo_logistic_lowering",
    "jax_use_shardy_partitioner",
)
# What in an environment does not change rounding, or is reported elsewhere: the program in a notice of its own, a CPU's
# cores in `device`.
_NO_MATTER = {"mnist_jax", "commit", "dirty", "lock_sha256", "python", "cores", "lessons_at_a_time"}

_CONTROL_GROUPS = (Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))  # their root, and the file that names our own


def command_line(program: str) -> str:
    """The command that repeats this run, for results.json: `program` with this process's arguments but `--resume`."""
    return f"{program} {shlex.join(argument for argument in sys.argv[1:] if argument != '--resume')}".strip()


def describe_run(
    study: str, data: Dataset, lessons: Mapping[str, Lesson], *, command: str, **settings: Any
) -> dict[str, Any]:
    """Describe a run: the beginning of its results.json.

    Args:
      study: name of the study, which no other one resumes.
      data: training, validation and test data.
      lessons: id -> lesson, as trained or as the study starts from.
      command: command line that repeats the run.
      settings: seeds, epochs and so on.
    """
    return {
        "study": study,
        "data": {**data.describe(), "where": None if data.where is None else str(data.where)},
        "config": {
            "command": command,
            **settings,
            "lessons": {key: lesson_to_json(lesson) for key, lesson in lessons.items()},
            "jax": numerics(),
        },
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Program, versions, system, device and settings: what results come from, and what may change their rounding.

    `commit`, `dirty` and `lock_sha256` are those of `checkout`.
    """
    device = jax.devices()[0]
    return {
        "mnist_jax": _own_version(),
        **_own_checkout(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": device.platform,
        "backend_version": device.client.platform_version,
        "driver": driver() if device.platform == "gpu" else None,
        "device": f"{cores()} CPU cores" if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "processor": processor(),
        "cores": cores(),
        "settings": {
            **{name: os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")},
            **_jax_settings(_ROUNDING),
        },
    }


def environment_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], form: str = "{name} {now} instead of {was}"
) -> list[str]:
    """What may make results of two `environment`s differ in rounding: `jax 0.10.2 instead of 0.10.1`.

    What only one of them says, as where another version wrote the other, is left out.
    """
    changed = differences(_known_to(new, old), _known_to(old, new))
    return [form.format(name=name, now=now, was=was) for name, was, now in changed if name not in _NO_MATTER]


def _known_to(other: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values whose names `other` has, too."""

    def known(value: Any, its: Any) -> Any:
        return _known_to(its, value) if isinstance(value, Mapping) and isinstance(its, Mapping) else value

    return {name: known(value, other[name]) for name, value in values.items() if name in other}


def program(recorded: Mapping[str, Any], uncommitted: str = "with uncommitted changes") -> str:
    """Of an `environment`, `mnist_jax 0.1.0, commit 0123456789ab, with uncommitted changes`; empty in old records."""
    release, commit = recorded.get("mnist_jax"), recorded.get("commit")
    words = [f"mnist_jax {release}"] if release else []
    words += [f"commit {commit[:12]}"] if commit else []
    words += [uncommitted] if recorded.get("dirty") else []
    return ", ".join(words)


def may_be_another_program(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two `environment`s may differ in program: another version or commit, or uncommitted changes now.

    False if an old record does not say.
    """
    return bool(program(old) and program(new)) and (program(old) != program(new) or new["dirty"])


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
    """How to give JAX the settings of an old `describe_run`: `set JAX_ENABLE_X64=True`.

    Empty if nothing differs, or something else does, too.
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
    """The current values of those settings that this version of JAX has."""
    values = {name: getattr(jax.config, name, jax.config.values[name]) for name in names if name in jax.config.values}
    return {name: value.name if isinstance(value, enum.Enum) else value for name, value in values.items()}


def cores() -> int:
    """Cores that this process may keep busy: by its affinity, and by the quotas of its control groups (Linux's v2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([count, *_quotas()])))


def _quotas() -> Iterator[float]:
    root, own = _CONTROL_GROUPS
    with contextlib.suppress(OSError):
        group = root / own.read_text(encoding="utf-8").rpartition("0::/")[2].strip()
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # none there, or "max"
                quota, period = map(float, (folder / "cpu.max").read_text(encoding="utf-8").split())
                yield quota / period


def processor() -> str:
    """The processor's model, or its architecture where that is not known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def driver() -> str | None:
    """The version of NVIDIA's driver; None if unknown, as outside Linux."""
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
        return found[0] if (found := re.search(r"\b\d+(\.\d+)+\b", text)) else None
    return None


@functools.cache
def _own_checkout() -> dict[str, Any]:
    """`checkout`, once per process: the program that runs stays what it was, whatever happens to its files."""
    return checkout(Path(__file__).resolve().parents[2])


def _own_version() -> str | None:
    """The package's version; None if it is on the path without being installed."""
    with contextlib.suppress(PackageNotFoundError):
        return version("mnist_jax")
    return None
