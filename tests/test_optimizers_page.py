"""docs/optimizers.md: its commands and code run, and its tables are the recorded ones."""

import re
import shlex
import sys

import pytest
from helpers import ROOT

from mnist_jax import data
from mnist_jax.cli import commands as cli

PAGE = (ROOT / "docs" / "optimizers.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
MODULE = "my_module"


@pytest.fixture
def own_module(tmp_path, monkeypatch, own_optimizers):
    """The page's optimizer can be imported."""
    (source,) = (code for code in CODE if code.startswith(f"# {MODULE}.py"))
    (tmp_path / f"{MODULE}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("own_module")
def test_commands(command, run_main, toy_folder, tmp_path):
    program, *arguments = shlex.split(command)
    assert program == "mnist-jax"
    shorter = ["--hidden", 8, "--epochs", 1, "--data", toy_folder, "--out", tmp_path / "out"]
    status, out, err = run_main(cli.main, *arguments, *shorter)
    assert (status, err) == (0, "")
    assert "test accuracy" in out


@pytest.mark.usefixtures("own_module")
def test_code(toy_folder, monkeypatch, capsys):
    load, names = data.load, {}
    monkeypatch.setattr(data, "load", lambda source: load(str(toy_folder)))
    for code in CODE:
        exec(compile(code, "optimizers.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "min_dim_size_to_factor" in printed
    assert "accumulated_adam 0.003, every 8" in printed
    assert "False" not in printed


def test_tables_are_the_recorded_ones():
    recorded = (ROOT / "experiments" / "results" / "all_of_optax" / "README.md").read_text()
    (shown,) = re.findall(r"<!-- all_of_optax table -->\n\n(.*)\n<!-- end of all_of_optax table -->", PAGE, re.DOTALL)
    assert shown == recorded


def test_links():
    for target in re.findall(r"\[[^]]*\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists()
