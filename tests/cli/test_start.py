import os
import subprocess
import sys

import pytest

TRAIN = ["-m", "mnist_jax", "train", "mlp", "--epochs", "1"]


@pytest.fixture
def train(toy_folder, tmp_path):
    """Train in a process of its own, with an empty cache folder of the user's; its output without seconds."""
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
def test_a_second_start_compiles_nothing(train, tmp_path):
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
