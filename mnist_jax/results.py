"""Files of a run: the folder, results.json, and how they are written so that none is ever half there."""

import dataclasses
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import Lesson

RESULTS = "results.json"


def claim_folder(out: Path | None, name: str) -> Path:
    """The folder for a run's files, made if need be and known to be writable.

    Args:
      out: the user's choice; None is `runs/NAME-DATE-TIME`.
      name: of the run.

    Raises:
      UserError: it holds a run already, or cannot be written.
    """
    folder = out.expanduser() if out else Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (folder / RESULTS).exists():
        raise UserError(f"{folder} already holds a run; name another folder with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}); name another folder with --out."
        ) from error
    return folder


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: the file is there whole or as it was before.

    Raises:
      UserError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json; a number that is not finite is refused, JSON has none."""
    write_file(folder / RESULTS, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())


def command_line(program: str) -> str:
    """What the user typed, for results.json: `program` with this process's arguments."""
    return f"{program} {shlex.join(sys.argv[1:])}".strip()


def describe_run(data: Dataset, lessons: Mapping[str, Lesson], *, command: str, **settings: Any) -> dict[str, Any]:
    """results.json before the first lesson is done.

    Args:
      data: what is trained on.
      lessons: id -> lesson, as trained.
      command: what makes these results again.
      settings: seeds, epochs and the like.
    """
    return {
        "data": data.describe(),
        "config": {
            "command": command,
            **settings,
            "lessons": {key: dataclasses.asdict(lesson) for key, lesson in lessons.items()},
        },
        "environment": environment(),
        "lessons": {},
    }


def environment() -> dict[str, str]:
    """Versions and device, for results.json."""
    device = jax.devices()[0]
    return {
        **{name: version(name) for name in ("jax", "flax", "optax")},
        "python": platform.python_version(),
        "backend": device.platform,
        "device": f"{os.cpu_count()} CPU cores" if device.platform == "cpu" else device.device_kind,
    }
