"""What several tests use: tiny data, scripts as modules, and settings for a while."""

import contextlib
import dataclasses
import gzip
import hashlib
import importlib.util
import io
import json
import resource
import struct
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mnist_jax import LESSONS, Examples
from mnist_jax.cli.arguments import KeepingArguments
from mnist_jax.cli.study import begin_study
from mnist_jax.cli.terminal import make_console
from mnist_jax.data.tfds import FILES
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.files import CHECKPOINTS, JOURNAL, RESULTS
from mnist_jax.studies.search import Budget, compare
from mnist_jax.studies.spaces import SPACES

ROOT = Path(__file__).parents[2]


def toy_digits(n, seed=0):
    """`n` images that a net can tell apart: class c is a bright row 2c + 4 in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    images = rng.integers(0, 64, (n, 28, 28))
    images[np.arange(n), 2 * labels + 4] += 180
    return Examples(images.astype(np.uint8), labels.astype(np.uint8))


def idx_bytes(array):
    """An array of bytes in IDX form."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx_folder(folder, train, test, *, zipped=True):
    """The four files of an MNIST-like data set."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, examples in (("train", train), ("test", test)):
        for name, array in zip(FILES[split], examples, strict=True):
            content = idx_bytes(array)
            if zipped:
                (folder / name).write_bytes(gzip.compress(content, 1))
            else:
                (folder / name.removesuffix(".gz")).write_bytes(content)
    return folder


def called(main, *arguments):
    """Call a `main` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *map(str, arguments)])
        main()


def ladder_run(folder, *arguments):
    """The folder of a ladder trained with these arguments."""
    called(script("ladder").main, *arguments, "--out", folder)
    return folder


def end_of_training(folder):
    """How `mnist-jax train` ended: the last checkpoint's epoch and arrays, digested, and the curves without seconds."""
    ((lesson_id, entry),) = json.loads((folder / RESULTS).read_text())["lessons"].items()
    (kept,) = (folder / CHECKPOINTS / lesson_id).iterdir()
    newest = Checkpoints(kept).newest()
    arrays = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in newest.arrays.items()}
    return newest.epoch, arrays, {name: value for name, value in entry.items() if name != "seconds"}


def script(name):
    """A script, `ladder` for experiments/ladder.py, as a module."""
    path = ROOT / (name if "/" in name else f"experiments/{name}.py")
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where tyro looks for its source
    spec.loader.exec_module(module)
    return module


NUMERICS = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "highest",
    "jax_random_seed_offset": 1,
    "jax_explicit_x64_dtypes": "allow",
}


ROUNDING = {
    "eager_constant_folding": True,
    "jax_allow_f16_reductions": False,
    "jax_compiler_enable_remat_pass": False,
    "jax_cpu_collectives_implementation": "mpi",
    "jax_disable_jit": True,
    "jax_disable_most_optimizations": True,
    "jax_memory_fitting_level": "O1",
    "jax_optimization_level": "O1",
    "jax_scan3": True,
    "jax_softmax_custom_jvp": True,
    "jax_use_direct_linearize": False,
    "jax_use_shardy_partitioner": False,
}
# Those of some versions of JAX only.
ROUNDING |= {
    name: value
    for name, value in {
        "jax_accurate_erf_inv": True,
        "jax_custom_jvp3": True,
        "jax_exec_time_optimization_effort": 0.5,
        "jax_memory_fitting_effort": 0.5,
        "jax_use_hlo_logistic_lowering": True,
    }.items()
    if name in jax.config.values
}


@contextlib.contextmanager
def jax_setting(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def room_for(size):
    """Let no file grow beyond `size` bytes, and keep no compiled program: a truncated one would fail later tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with jax_setting("jax_persistent_cache_min_compile_time_secs", float("inf")):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Of a comparison of sgd and adam.
QUICK_ENOUGH = ["--lessons", "mlp", "--trials", 2, "--final-seeds", 2, "--epochs", 2]


def huge(side=30_000):
    """A PNG of a few bytes that claims this many pixels per side."""
    file = bytearray(_png(Image.new("L", (1, 1))))
    start = file.index(b"IHDR")
    file[start + 4 : start + 12] = side.to_bytes(4, "big") * 2
    file[start + 17 : start + 21] = zlib.crc32(file[start : start + 17]).to_bytes(4, "big")
    return bytes(file)


HEADER = {"study": "optimizers", "config": {"command": "python experiments/optimizers.py"}}


BUDGET = Budget(trials=2, final_seeds=(2000, 2001), test_every=1)


# Without the choices, so that each search compiles few programs.
COMPARED = [dataclasses.replace(SPACES[name], dimensions=tuple(SPACES[name].ranges)) for name in ("sgd", "adam")]


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def run_compare(folder, dataset, spaces=COMPARED, lesson=LESSONS["mlp"], *, tensorboard=False):
    """Compare optimizers on one net in a folder, continuing what is there; the net's entry in results.json."""
    keeping = KeepingArguments(out=folder, resume=(folder / JOURNAL).exists(), tensorboard=tensorboard)
    with (
        begin_study(HEADER, dataset, keeping, make_console()) as study,
        study.training(keeping, runs=sum(map(BUDGET.runs, spaces)), epochs=2, in_bulk=True) as training,
    ):
        return compare(spaces, {"mlp": lesson}, dataset, BUDGET, 2, training.train)["mlp"]
