"""From the start of a process to the test accuracy of its first epoch."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnist_jax.cli.arguments import DataArguments
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.runs.files import JOURNAL
from timing.epochs import Progress, medians, rounds

KINDS = ("cold", "warm")  # with an empty cache folder, and with what that start left there


def start_times(lessons: Iterable[str], options: Sequence[str], repeats: int, progress: Progress) -> dict[str, Any]:
    """Seconds to the first epoch, and the largest peak memory, of each lesson; empty without repeats.

    `options` are those of the command line that choose the data.
    """
    seconds: dict[str, dict[str, list[float]]] = {}
    memory: dict[str, int] = {}
    for _, lesson_id in progress(rounds("start", repeats, lessons)):
        command = [sys.executable, "-m", "mnist_jax", "train", lesson_id, "--epochs", "1", *options]
        with tempfile.TemporaryDirectory() as temporary:
            for kind in KINDS:
                taken, peak = first_epoch(command, out=Path(temporary, kind), cache=Path(temporary, "cache"))
                seconds.setdefault(kind, {}).setdefault(lesson_id, []).append(taken)
                memory[lesson_id] = max(peak, memory.get(lesson_id, 0))
    return {
        "first_epoch_seconds": {kind: medians(times) for kind, times in seconds.items()},
        "all_first_epoch_seconds": seconds,
        "peak_memory_bytes": memory,
    }


def data_options(data: Dataset, chosen: DataArguments) -> list[str]:
    """Options with which the command loads the same data."""
    found = ["--split", data.split, "--data", chosen.data if data.source in ("file", "folder") else data.source]
    return found if chosen.data_dir is None else [*found, "--data-dir", str(chosen.data_dir)]


def first_epoch(command: Sequence[str], out: Path, cache: Path) -> tuple[float, int]:
    """Seconds until a command has shown its first epoch, and its peak memory in bytes.

    Args:
      command: trains for an epoch; it takes `--out`, and adds the run to runs.jsonl as soon as it has shown the epoch.
      out: folder for runs.jsonl, whose modification time shows when that was.
      cache: replaces the user's cache folder.

    Raises:
      UserError: the command failed.
    """
    variables = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    variables["XDG_CACHE_HOME"] = str(cache)
    began = time.time()  # files are dated by this clock
    with subprocess.Popen(
        [*command, "--out", str(out)], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        lines = [line.decode(errors="replace").strip() for line in process.stdout or ()]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or not (out / JOURNAL).exists():
        last = next(filter(None, reversed(lines)), "it printed nothing")
        raise UserError(f"A start of mnist-jax failed ({last}); --start-repeats 0 leaves starts out.")
    return (out / JOURNAL).stat().st_mtime - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
