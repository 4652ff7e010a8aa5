"""Trained nets exchanged with other programs: safetensors with the names of the PyTorch notebooks, and StableHLO."""

import dataclasses
import functools
import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from mnist_jax.data import Dataset
from mnist_jax.errors import UserError, check_choice, reason
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE, PIXELS, Lesson, lesson_by_id, lesson_of_json, lesson_to_json
from mnist_jax.nets.trained import TrainedNet
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.files import CHECKPOINTS, RESULTS, make_folder, write_results
from mnist_jax.runs.provenance import describe_run
from mnist_jax.runs.records import RunRecord, lesson_entry
from mnist_jax.runs.states import state_arrays
from mnist_jax.train import TrainState, evaluate, evaluation_params, init_net, logits

Format = Literal["safetensors", "stablehlo"]
FORMATS = get_args(Format)

# Flax's name of an array in a layer's params or batch_stats -> PyTorch's.
_DENSE = {"kernel": "weight", "bias": "bias"}
_BATCH_NORM = {"scale": "weight", "bias": "bias"}
_BATCH_STATS = {"mean": "running_mean", "var": "running_var"}
_COUNT = ".num_batches_tracked"

# Keys of a safetensors file's metadata, which PyTorch's tools do not write.
_LESSON, _LESSON_ID, _ENVIRONMENTS = "mnist_jax.lesson", "mnist_jax.lesson_id", "mnist_jax.environments"


def pytorch_tensors(state: TrainState) -> dict[str, np.ndarray]:
    """The net of a state in the form of the notebooks' `Net().state_dict()`.

    Returns:
      `fc1.weight` `[512, 784]`, `fc1.bias` `[512]`, with batch norm `batch_norm1.weight`, `.bias`, `.running_mean` and
      `.running_var` `[512]` and `.num_batches_tracked` (a scalar, int64: the steps taken), and so on.
    """
    tensors = {}
    for layer, arrays in evaluation_params(state).items():
        names = _names(layer)
        for name, array in arrays.items():
            tensors[f"{layer}.{names[name]}"] = _turned(name, np.asarray(array))
    for layer, arrays in state.batch_stats.items():
        for name, array in arrays.items():
            tensors[f"{layer}.{_BATCH_STATS[name]}"] = np.asarray(array)
        tensors[f"{layer}{_COUNT}"] = np.asarray(state.step, np.int64)
    return tensors


def state_of_tensors(tensors: Mapping[str, np.ndarray], lesson: Lesson, seed: int = 0) -> TrainState:
    """The inverse of `pytorch_tensors`; the state has no optimizer state, and new random keys.

    Args:
      tensors: all tensors of the net, and no others; `num_batches_tracked` may be missing.
      lesson: lesson of the net.
      seed: seed of the keys.

    Raises:
      UserError: a tensor is missing, of the wrong shape or dtype, not finite, or not part of the net.
    """
    start = functools.partial(init_net, lesson)
    state = jax.eval_shape(start, jax.random.key(seed))  # everything is checked before the net is made
    names = {
        **{(layer, name): f"{layer}.{_names(layer)[name]}" for layer in state.params for name in state.params[layer]},
        **{(layer, name): f"{layer}.{_BATCH_STATS[name]}" for layer in state.batch_stats for name in _BATCH_STATS},
    }
    for name in sorted(names.values(), key=lambda name: name.startswith("batch_norm")):
        if name not in tensors:
            raise UserError(f"{name} is missing; the file has {', '.join(list(tensors)[:3]) or 'nothing'}.")
    counts = {f"{layer}{_COUNT}" for layer in state.batch_stats}
    if strangers := [name for name in tensors if name not in counts.union(names.values())]:
        raise UserError(f"{strangers[0]} is not part of the lesson's net.")

    def taken(likes: Mapping[str, Mapping[str, jax.ShapeDtypeStruct]]) -> dict[str, dict[str, jax.Array]]:
        return {
            layer: {name: _taken(names[layer, name], tensors, name, like) for name, like in arrays.items()}
            for layer, arrays in likes.items()
        }

    params, batch_stats = taken(state.params), taken(state.batch_stats)
    if any((stats["var"] < 0).any() for stats in batch_stats.values()):
        raise UserError("A running variance is below 0.")
    steps = max((_steps(name, tensors[name]) for name in sorted(counts.intersection(tensors))), default=0)
    return dataclasses.replace(
        start(jax.random.key(seed)), params=params, batch_stats=batch_stats, step=jnp.int32(steps)
    )


def _taken(key: str, tensors: Mapping[str, np.ndarray], name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Check the tensor `key`, and return it as Flax's array `name`."""
    tensor = tensors[key]
    shape = like.shape[::-1] if name == "kernel" else like.shape
    if tensor.shape != shape:
        raise UserError(f"{key} has shape {tensor.shape}; the lesson's net needs {shape}.")
    if tensor.dtype != like.dtype:
        raise UserError(f"{key} is {tensor.dtype}, not {like.dtype}; convert the net with .float() before saving.")
    if not np.isfinite(tensor).all():
        raise UserError(f"{key} holds a value that is not finite.")
    return jnp.asarray(_turned(name, tensor))


def _steps(name: str, count: np.ndarray) -> int:
    """The value of a `num_batches_tracked`, clipped to int32."""
    if count.shape != () or not np.issubdtype(count.dtype, np.integer):
        raise UserError(f"{name} is not a whole number.")
    return min(max(int(count), 0), np.iinfo(np.int32).max)


def _names(layer: str) -> dict[str, str]:
    return _BATCH_NORM if layer.startswith("batch_norm") else _DENSE


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """Transpose a kernel: Flax's is `[in, out]`, PyTorch's `[out, in]`."""
    return np.ascontiguousarray(array.T) if name == "kernel" else array


def safetensors_file(net: TrainedNet) -> bytes:
    """`pytorch_tensors` as a safetensors file, with the lesson and the net's origin as JSON in its metadata."""
    from safetensors.numpy import save

    metadata = {
        _LESSON_ID: net.lesson_id,
        _LESSON: json.dumps(lesson_to_json(net.state.lesson)),
        _ENVIRONMENTS: json.dumps(net.environments),
    }
    return save(pytorch_tensors(net.state), metadata=metadata)


def stablehlo_file(net: TrainedNet) -> bytes:
    """The net's `logits`, weights included, as a StableHLO program for CPU, CUDA, ROCm and TPU.

    `jax.export.deserialize` reads it, without this package; its `.call` takes uint8 `[n, 28, 28]` for any n and
    returns float32 `[n, 10]`.
    """
    from jax import export

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *IMAGE_SHAPE), jnp.uint8)
    program = jax.jit(functools.partial(logits, net.state))
    return bytes(export.export(program, platforms=("cpu", "cuda", "rocm", "tpu"))(images).serialize())


def exported(net: TrainedNet, form: str) -> bytes:
    """The net as a file of format `form`; an unknown one raises `UserError`."""
    check_choice("format", form, FORMATS)
    return {"safetensors": safetensors_file, "stablehlo": stablehlo_file}[form](net)


def read_safetensors(file: Path, lesson_id: str, seed: int = 0) -> TrainedNet:
    """Read the net from a safetensors file of PyTorch or `safetensors_file`.

    Args:
      file: the user's file.
      lesson_id: lesson of the net; the widths of the hidden layers are taken from the file, and if this program wrote
        it, all other changes to the lesson, too.
      seed: see `state_of_tensors`.

    Raises:
      UserError: the file cannot be read, or does not hold a net of the lesson.
    """
    from safetensors import SafetensorError, safe_open

    lesson = lesson_by_id(lesson_id)
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} cannot be read as safetensors ({reason(error)}); save the net with "
            "safetensors.torch.save_file(net.state_dict(), FILE)."
        ) from error
    if _LESSON in metadata:
        lesson = _kept_lesson(file, metadata, lesson_id)
    try:
        return TrainedNet(lesson_id, seed, 0, state_of_tensors(tensors, _with_widths(lesson, tensors), seed))
    except UserError as error:
        raise UserError(f"{file} does not hold the net of lesson {lesson_id}: {error}") from error


def _kept_lesson(file: Path, metadata: Mapping[str, str], lesson_id: str) -> Lesson:
    kept = metadata.get(_LESSON_ID)
    if kept != lesson_id:
        raise UserError(f"{file} holds lesson {kept!r}, not {lesson_id!r}; name that with --lesson.")
    try:
        return lesson_of_json(json.loads(metadata[_LESSON]))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} describes a lesson that is not possible: {reason(error)}.") from error


def _with_widths(lesson: Lesson, tensors: Mapping[str, np.ndarray]) -> Lesson:
    """The lesson with the widths of the hidden layers in the file, if each layer fits the one before."""
    widths = [PIXELS]
    while (name := f"fc{len(widths)}.weight") in tensors:
        shape = tensors[name].shape
        if len(shape) != 2 or shape[1] != widths[-1]:
            return lesson  # the mismatch is reported later
        widths.append(shape[0])
    is_whole = len(widths) > 2 and widths[-1] == CLASSES
    return dataclasses.replace(lesson, hidden=tuple(widths[1:-1])) if is_whole else lesson


def keep_imported(
    net: TrainedNet, file: Path, data: Dataset, out: Path | None, command: str
) -> tuple[Path, dict[str, Any]]:
    """Make a run's folder for a net trained elsewhere, tested on `data`, so that `read_nets` finds it there.

    Args:
      net: net of epoch 0.
      file: file that the net was read from.
      data: data whose test split is used.
      out: the user's folder; None is a new one in `runs/`.
      command: command line that makes this folder again.

    Returns:
      The folder, and what its results.json holds; no epochs, and so a single accuracy.

    Raises:
      UserError: the net's outputs are not finite, the folder holds a run already, or it cannot be written.
    """
    tested = evaluate(net.state, data.test)
    if not math.isfinite(tested.loss):
        raise UserError(f"{file} holds a net whose outputs are not finite.")
    described = describe_run(
        "import",
        data,
        {net.lesson_id: net.state.lesson},
        command=command,
        seeds=[net.seed],
        epochs=net.epoch,
        imported={"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
    )
    # No epochs: only what was measured here.
    record = RunRecord(
        seed=net.seed,
        test_correct=[int(tested.correct)],
        test_loss=[float(tested.loss)],
        train_loss=[],
        seconds=[],
        diverged=False,
    )
    results = {**described, "lessons": {net.lesson_id: lesson_entry([record])}}
    folder = make_folder(out, f"{net.lesson_id}-imported", RESULTS)
    checkpoints = Checkpoints(folder / CHECKPOINTS / net.lesson_id / f"seed-{net.seed}-imported")
    try:
        arrays = {name: np.asarray(array)[None] for name, array in state_arrays(net.state).items()}
        checkpoints.save(net.epoch, arrays, [record.to_json()])
        write_results(folder, results)
    except BaseException as error:  # free the folder: `make_folder` refuses one with checkpoints in it
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        (folder / RESULTS).unlink(missing_ok=True)
        if isinstance(error, UserError):
            why = reason(error.__cause__ or error)
            raise UserError(f"{folder} cannot be written ({why}); choose another folder with --out.") from error
        raise
    return folder, results
