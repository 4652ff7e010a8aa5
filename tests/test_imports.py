"""The core needs jax, flax, optax, chex and numpy only, and lint-imports holds the contracts of pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

WITHOUT_THE_REST = """
import sys
for name in (
    "tyro", "tensorflow_datasets", "mlxtend", "matplotlib", "PIL", "platformdirs", "requests", "scipy", "tensorboardX",
    "filelock", "msgspec", "opda", "pyarrow", "pandas",
):
    sys.modules[name] = None
import jax, numpy as np
from mnist_jax import LESSONS, Examples, evaluate, init_state, train_epoch
examples = Examples(np.zeros((40, 28, 28), np.uint8), np.zeros(40, np.int32))
state, loss = train_epoch(init_state(LESSONS["adam"], jax.random.key(0)), examples)
assert evaluate(state, examples).correct == examples.size
"""


def test_training_from_arrays_needs_nothing_else():
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_THE_REST], check=True)


def test_idx_folder_loads_with_core_dependencies_only(toy_folder):
    lines = WITHOUT_THE_REST.splitlines()[:7]
    code = "\n".join([*lines, "from mnist_jax.data import load", f"assert load({str(toy_folder)!r}).train.size == 66"])
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("runs/files.py", ""),
        ("runs/files.py", "import mnist_jax.studies.stats"),  # against the layers
        ("train.py", "import scipy"),
        ("studies/search.py", "import rich"),
    ],
)
def test_lint_imports_fails_on_a_broken_contract(tmp_path, module, line):
    shutil.copytree(ROOT / "mnist_jax", tmp_path / "mnist_jax")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "mnist_jax" / module).open("a") as file:
        file.write(f"{line}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == bool(line), done.stdout
    assert ("BROKEN" in done.stdout) == bool(line)
