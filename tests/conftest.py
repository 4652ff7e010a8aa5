"""Strict settings and tiny data for all tests."""

import dataclasses
import os
from pathlib import Path

# Before jax is imported, so that commands run in processes of their own are strict too. The tests' time is mostly
# compilation: processes and later runs share it.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "4",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # Tests compile more than they compute: less optimisation by LLVM saves a third of the time. XLA's stays the same.
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1",
}

import sys

import jax
import pytest
from helpers import ladder_run, toy_digits, write_idx_folder
from hypothesis import settings

from mnist_jax import OPTIMIZERS, data

# The same examples each time, so that a failure comes from the change under test; fuzz.py explores further.
settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=400, deadline=None, derandomize=True)
settings.load_profile("quick")  # unless --hypothesis-profile names another


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items):
    """Skip tests of the real files where these are missing, and let a lesson's tests share a process.

    What one of them has compiled or trained then serves the others.
    """
    skip = pytest.mark.skip(reason="MNIST_JAX_DATA names no folder with the four files")
    for item in items:
        if "mnist_folder" in item.fixturenames and not os.environ.get("MNIST_JAX_DATA"):
            item.add_marker(skip)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if shared := {"toy_ladder", "digits_run", "uninterrupted_comparison"} & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(min(shared)))
        elif lesson := parameters.get("lesson_id") or parameters.get("lesson"):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {lesson}"))


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory):
    """No test reads or writes the user's cache or TFDS folder."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(root / "tfds"))
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_memory_maps():
    """Forget compiled programs before the process has all memory maps that Linux allows it (65,530)."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.fixture
def mnist_folder():
    """The four original files."""
    return Path(os.environ["MNIST_JAX_DATA"])


@pytest.fixture(scope="session")
def toy():
    """72 images: two batches of 32 and one of 8."""
    return toy_digits(72)


@pytest.fixture
def toy_folder(tmp_path, toy):
    """IDX files of 72 training and 20 test images."""
    return write_idx_folder(tmp_path / "toy", toy, toy_digits(20, seed=1))


@pytest.fixture(scope="session")
def dataset(toy):
    """66 images for training, two batches of 32 and one of 2; 6 for validation, 20 for testing."""
    return data.from_arrays(*toy, *toy_digits(20, seed=1))


@pytest.fixture
def one_device(monkeypatch):
    """A function after whose call JAX seems to have only one device."""
    first = jax.devices()[:1]
    return lambda: monkeypatch.setattr(jax, "devices", lambda: first)


@pytest.fixture
def own_optimizers():
    """Forget the optimizers that a test registers."""
    known = dict(OPTIMIZERS)
    yield
    OPTIMIZERS.clear()
    OPTIMIZERS.update(known)


@pytest.fixture(scope="session")
def toy_ladder(tmp_path_factory, toy):
    """A run of the six lessons with two seeds, on 72 and 20 images, for two epochs; not to be changed."""
    root = tmp_path_factory.mktemp("toy_ladder")
    digits = write_idx_folder(root / "toy", toy, toy_digits(20, seed=1))
    return ladder_run(root / "run", "--data", digits, "--split", "notebooks", "--epochs", 2, "--seeds", 2)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A run of lessons mlp and adam that know real digits: two epochs on the sample; not to be changed."""
    folder, load = tmp_path_factory.mktemp("digits") / "run", data.load
    with pytest.MonkeyPatch.context() as patch:  # a third of an epoch is enough
        patch.setattr(data, "load", lambda *asked: dataclasses.replace(load(*asked), epoch_length=20_000))
        return ladder_run(folder, "--data", "sample", "--epochs", 2, "--lessons", "mlp", "adam")


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Run a `main` with arguments: (exit status, stdout, stderr)."""

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code
        output = capsys.readouterr()
        return status, output.out, output.err

    return run
