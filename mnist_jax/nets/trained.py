"""Trained nets in a run's folder: found and read without changing anything."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.errors import UserError, check_choice, expand_user, is_folder
from mnist_jax.lessons import DIGITS, LESSONS, Lesson, lesson_of_json
from mnist_jax.runs.checkpoints import last_checkpoint
from mnist_jax.runs.files import CHECKPOINTS, JOURNAL, RESULTS, RUNS
from mnist_jax.runs.schema import fault
from mnist_jax.runs.states import net_of_arrays
from mnist_jax.train import TrainState, logits

LATEST = "latest"  # stands for the newest folder in runs/


@dataclasses.dataclass(frozen=True)
class TrainedNet:
    """A net as its run left it.

    Attributes:
      lesson_id: id of its lesson.
      seed: seed of its run.
      epoch: number of epochs trained; 0 for an imported net.
      state: state of one run, without an axis of runs, without optimizer state, and with the parameters to evaluate.
      environments: environments in which its run was started and resumed, as in results.json; empty if it was read from
        a file of its own.
    """

    lesson_id: str
    seed: int
    epoch: int
    state: TrainState
    environments: Sequence[Mapping[str, Any]] = ()

    @property
    def history(self) -> str:
        """Where the net comes from, in words."""
        return f"seed {self.seed}, after epoch {self.epoch}" if self.epoch else "imported"

    def __str__(self) -> str:
        return f"lesson {self.lesson_id}, {self.history}"


def run_folder(run: Path) -> Path:
    """The folder of a run that the user names, or for `latest` the newest in runs/ (unless a folder has that name).

    Raises:
      UserError: there is none.
    """
    folder = expand_user(run)
    if str(run) == LATEST and not is_folder(folder):
        runs = [path for path in RUNS.glob("*/") if _has_run(path)]
        if not runs:
            raise UserError("There is no run in runs yet; `make ladder` or `mnist-jax train adam` makes one.")
        return max(runs, key=_last_trained)
    if not is_folder(folder):
        raise UserError(f"{folder} is not a folder; name the folder of a run, or `{LATEST}` for the newest in runs.")
    if not _has_run(folder):
        raise UserError(f"{folder} holds no run; name a folder with {RESULTS} or {JOURNAL} in it.")
    return folder


def _has_run(folder: Path) -> bool:
    try:
        return (folder / RESULTS).is_file() or (folder / JOURNAL).is_file()
    except OSError:  # a folder that may not be read
        return False


def _last_trained(folder: Path) -> float:
    """Time of the latest training, in seconds; a report that is written into the folder later does not count."""
    files = folder / RESULTS, folder / JOURNAL
    return max(file.stat().st_mtime for file in files if file.is_file())


def read_run(folder: Path) -> dict[str, Any]:
    """What results.json holds or, before it is written, the first line of runs.jsonl, which describes the run.

    Environments in which it was resumed are taken from runs.jsonl, which has them first.

    Raises:
      UserError: the file cannot be read, or is not what a run writes.
    """
    path = folder / RESULTS if (folder / RESULTS).is_file() else folder / JOURNAL
    lines = _journal(folder)
    run: Any = _decoded(path, json.loads) if path.name == RESULTS else next(iter(lines), None)
    if isinstance(run, dict) and (resumed := [line["resumed_in"] for line in lines if "resumed_in" in line]):
        run["resumed_in"] = resumed
    if found := fault(run):
        raise UserError(f"{path} is not what a run of this program writes ({found}).")
    return run


def class_names(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the ten classes of a run that `read_run` read."""
    return tuple(run["data"].get("classes") or DIGITS)


def _journal(folder: Path) -> list[dict[str, Any]]:
    """The complete lines of runs.jsonl; a last one may be half written."""
    path = folder / JOURNAL
    if not path.is_file():
        return []
    lines = _decoded(path, lambda text: [json.loads(line) for line in text.split("\n")[:-1]])
    return [line for line in lines if isinstance(line, dict)]


def _decoded(path: Path, decode: Callable[[str], Any]) -> Any:
    try:
        return decode(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'it is no JSON'}).") from error


def read_nets(folder: Path, *, lesson_id: str | None = None, seed: int | None = None) -> list[TrainedNet]:
    """The nets of a run, one per lesson, in the course's order; at least one.

    Args:
      folder: folder of the run.
      lesson_id: read the net of this lesson only.
      seed: seed of the runs; None is the first of each lesson.

    Raises:
      UserError: there is no such net, or one cannot be read.
    """
    config = read_run(folder)["config"]
    lessons = _lessons_with_nets(folder, config)
    if not lessons:
        raise UserError(f"{folder} holds no trained net: no epoch is finished yet, or it is a study that keeps none.")
    seeds = config.get("seeds", [])
    if seed is not None and seed not in seeds:
        raise UserError(f"{folder} holds no run of seed {seed}; its seeds are {', '.join(map(str, seeds))}.")
    if lesson_id is not None:
        check_choice(f"lesson in {folder}", lesson_id, lessons)
    found = find_nets(folder, lesson_id=lesson_id, seed=seed)
    if not found:
        which = "" if seed is None else f", seed {seed}"
        raise UserError(
            f"{folder} holds no net of {lesson_id or ', '.join(lessons)}{which} that can be used: it diverged, or its "
            "checkpoint is damaged or of another version of this program."
        )
    return found


def find_nets(folder: Path, *, lesson_id: str | None = None, seed: int | None = None) -> list[TrainedNet]:
    """Like `read_nets`, but nets that are missing, damaged or diverged are left out.

    Raises:
      UserError: the run or an intact checkpoint cannot be read.
    """
    run = read_run(folder)
    recorded = _recorded(folder, run)
    nets = [
        _read_net(folder / CHECKPOINTS / name, lesson_of_json(lesson), name, seed, recorded)
        for name, lesson in _lessons_with_nets(folder, run["config"]).items()
        if lesson_id in (None, name)
    ]
    environments = [run["environment"], *run.get("resumed_in", [])]
    return [dataclasses.replace(net, environments=environments) for net in nets if net is not None and _is_finite(net)]


def _lessons_with_nets(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Id -> lesson as in JSON, of the lessons whose nets a run keeps."""
    lessons = config["lessons"]
    return {name: lessons[name] for name in LESSONS if name in lessons and (folder / CHECKPOINTS / name).is_dir()}


def _is_finite(net: TrainedNet) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((net.state.params, net.state.batch_stats)))


def _recorded(folder: Path, run: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """(lesson, seed, test loss after each epoch) of the finished runs in results.json and runs.jsonl."""
    written = [
        (name, *values)
        for name, entry in run.get("lessons", {}).items()
        if "test_correct" in entry
        for values in zip(entry["seeds"], entry["test_loss"], strict=True)
    ]
    return written + [(line.get("lesson"), line.get("seed"), line.get("test_loss")) for line in _journal(folder)]


def _read_net(
    folder: Path, lesson: Lesson, lesson_id: str, seed: int | None, recorded: Sequence[tuple[Any, ...]]
) -> TrainedNet | None:
    """The net of a lesson and seed.

    If there are several, because devices were added or removed, the one whose test losses are recorded, or else the
    longest trained.
    """
    groups = {path: int(match[1]) for path in folder.iterdir() if (match := re.match("seed-([0-9]+)-", path.name))}
    if seed is None:
        seed = min(groups.values(), default=0)
    # A group of runs side by side is named after its first seed.
    nets = []
    for path in sorted(groups, key=lambda path: (groups[path] != seed, path)):
        net, losses = _read_row(path, lesson, lesson_id, seed)
        if net is not None and (lesson_id, seed, losses) in recorded:
            return net
        nets += [] if net is None else [net]
    return max(nets, key=lambda net: net.epoch, default=None)


def _read_row(group: Path, lesson: Lesson, lesson_id: str, seed: int) -> tuple[TrainedNet | None, list[float]]:
    """The net of a seed in a group, if it is there, and its test losses so far."""
    checkpoint = last_checkpoint(group)
    if checkpoint is None:
        return None, []
    try:
        seeds = [record["seed"] for record in checkpoint.history]
        row = None if seed not in seeds else seeds.index(seed)
        arrays = {} if row is None else {name: array[row] for name, array in checkpoint.arrays.items()}
        losses = [] if row is None else checkpoint.history[row]["test_loss"]
    except (IndexError, KeyError, TypeError) as error:
        raise UserError(f"The checkpoint in {group} is of another version of this program; train again.") from error
    if row is None:
        return None, []
    return TrainedNet(lesson_id, seed, checkpoint.epoch, net_of_arrays(arrays, lesson, seed)), losses


def probabilities(net: TrainedNet, images: np.ndarray) -> np.ndarray:
    """Probability of each digit, float32 `[n, 10]`, for images uint8 `[n, 28, 28]`: the softmax of the net's logits.

    Raises:
      UserError: they are not finite.
    """
    found = np.asarray(jax.nn.softmax(logits(net.state, images)))
    if not np.isfinite(found).all():
        raise UserError(f"The net of {net} gives outputs that are not finite.")
    return found
