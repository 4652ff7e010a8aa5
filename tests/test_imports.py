"""The core needs jax, flax, optax, chex and numpy only, and imports point one way."""

import ast
import subprocess
import sys

import pytest
from helpers import ROOT

PACKAGE = ROOT / "mnist_jax"
ORDER = [
    "errors", "program", "optimizers", "lessons", "stats", "dropout", "model", "train",
    "processes", "startup", "locks",
    "idx", "tfds_mnist", "data", "results", "checkpoints", "experiment", "interrupts", "journal",
    "tensorboard", "published", "reproduction", "ladder", "display", "tuning", "figures", "net_figures", "schema",
    "trained", "exchange", "images", "pages", "demo", "report", "study", "cli", "__main__",
]  # fmt: skip

WITHOUT_THE_REST = """
import sys
for name in (
    "tyro", "tensorflow_datasets", "mlxtend", "matplotlib", "PIL", "platformdirs", "requests", "scipy", "tensorboardX",
    "filelock", "msgspec",
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


def test_a_folder_of_idx_files_needs_nothing_else(toy_folder):
    lines = WITHOUT_THE_REST.splitlines()[:7]
    code = "\n".join([*lines, "from mnist_jax.data import load", f"assert load({str(toy_folder)!r}).train.size == 66"])
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_every_module_is_in_the_order():
    assert sorted(ORDER) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way(module):
    allowed = set(ORDER[: ORDER.index(module)])
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mnist_jax"):
            names = [node.module.removeprefix("mnist_jax").removeprefix(".")]
            if names == [""]:
                names = [alias.name for alias in node.names]
            assert set(names) <= allowed
