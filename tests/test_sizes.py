"""No file is long, and no function."""

import ast

from helpers import ROOT


def files(*folders):
    return {path.relative_to(ROOT): path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py")}


def test_no_file_has_more_than_350_lines():
    lines = {str(path): source.count("\n") for path, source in files("mnist_jax", "experiments", "tests").items()}
    assert {path: count for path, count in lines.items() if count > 350} == {}


def test_no_function_has_more_than_60_lines():
    lines = {
        f"{path}: {node.name}": node.end_lineno - node.lineno + 1
        for path, source in files("mnist_jax", "experiments").items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in lines.items() if count > 60} == {}
