import os
import subprocess
import sys

import pytest

TRAIN = ["-m", "mnist_jax", "train", "mlp", "--epochs", "1"]


@pytest.fixture
def train(toy_folder, tmp_path):
    """Train in a new process with an empty user cache folder; returns its output without seconds."""
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    runs = iter(range(9))

    def run(*options, **variables):
        done = subprocess.run(
            [sys.executable, *TRAIN, "--data", toy_folder, "--out", tmp_path / f"run{next(runs)}", *options],
            env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache"), **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split("  test accuracy")[0]

    return run


def entries(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_second_start_compiles_nothing(train, tmp_path):
    first = train()
    kept = entries(tmp_path / "cache")
    assert any(path.name.startswith("jit_epoch") for path in kept)
    assert train() == first
    assert entries(tmp_path / "cache") == kept


@pytest.mark.slow
def test_truncated_cache_is_ignored(train, tmp_path):
    first = train()
    for path, content in entries(tmp_path / "cache").items():
        path.write_bytes(content[: len(content) // 2])
    assert train() == first


@pytest.mark.slow
def test_no_compilation_cache_keeps_nothing(train, tmp_path):
    train("--no-compilation-cache")
    assert entries(tmp_path / "cache") == {}
    train("--no-compilation-cache", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert entries(tmp_path / "own") == {}


@pytest.mark.slow
def test_uncreatable_cache_folder_is_ignored(train, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    train()
    train(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_cache_folder_with_undecodable_name_is_ignored(train, tmp_path):
    train(XDG_CACHE_HOME=str(tmp_path / "b\udcff"))
    assert not (tmp_path / "b\udcff").exists()


def test_jax_cache_variable_takes_precedence(train, tmp_path):
    train(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert entries(tmp_path / "own")
    assert entries(tmp_path / "cache") == {}


def test_command_imports_nothing_slow():
    slow = "scipy.stats", "matplotlib", "tensorflow_datasets", "mlxtend", "torch", "PIL"
    code = f"import sys, mnist_jax.cli; print([name for name in {slow} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"


DEVICES = """
import sys
import jax
from mnist_jax.cli.arguments import SharedJaxArguments
from mnist_jax.cli.program import exit_on_user_error
from mnist_jax.cli.start import start_jax
from mnist_jax.runs import provenance
provenance.cores = lambda: 3
sys.modules["mnist_jax.cli.start"].cores = provenance.cores
with exit_on_user_error():
    sys.modules["mnist_jax.runs.processes"].join = lambda: None
    start_jax(SharedJaxArguments(compilation_cache=False, **eval(sys.argv[1])))
    print(len(jax.devices()))
"""


def cpu_devices(flags, **variables):
    names = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    command = [sys.executable, "-c", DEVICES, repr(flags)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize(
    ("flags", "variables", "count"),
    [
        ({}, {}, "3"),
        ({"cpu_devices": 1}, {}, "1"),
        ({}, {"JAX_NUM_CPU_DEVICES": "2"}, "2"),
        ({"cpu_devices": 5}, {"JAX_NUM_CPU_DEVICES": "2"}, "5"),
        ({}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, "4"),
        ({"distributed": True}, {}, "1"),
        ({"distributed": True, "cpu_devices": 2}, {}, "2"),
    ],
)
def test_a_cpu_is_as_many_devices_as_cores_unless_the_user_says(flags, variables, count):
    assert cpu_devices(flags, **variables) == count


@pytest.mark.parametrize("flag", [0, -2, 1025])
def test_impossible_numbers_of_cpu_devices_are_refused(flag):
    assert cpu_devices({"cpu_devices": flag}) == f"error: A CPU can be 1 to 1,024 devices, not {flag}.\n"
