"""The notebooks run from start to end, hold the lessons' own lines, and their kept outputs are clean.

Those in Korean have the same code and outputs: tests/test_korean_notebooks.py.
"""

import ast
import dataclasses
import re
import shlex
import tomllib

import nbformat
import pytest
from helpers import ROOT, script
from nbformat.v4 import new_code_cell, new_notebook

from mnist_jax import LESSONS, Lesson, optimizer
from mnist_jax.cli import commands as cli

NOTEBOOKS = {lesson_id: ROOT / "notebooks" / f"{n}_{lesson_id}.ipynb" for n, lesson_id in enumerate(LESSONS, start=1)}
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
each = pytest.mark.parametrize("lesson_id", LESSONS)  # a lesson's tests share a process, lessons are spread over them


def read(lesson_id):
    return nbformat.read(NOTEBOOKS[lesson_id], as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def kinds(notebook):
    """For each output of each code cell: its kind, and stdout or stderr or its MIME types."""
    return [
        [(output.output_type, output.get("name"), sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_each_lesson_has_a_notebook():
    assert sorted(NOTEBOOKS.values()) == sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@each
def test_notebook_runs_from_start_to_end(lesson_id):
    notebook = read(lesson_id)
    kept = kinds(notebook)
    script("notebooks/run.py").run(notebook)
    assert "stderr" not in [output.get("name") for output in outputs(notebook)]
    assert kinds(notebook) == kept


@each
def test_changed_line_matches_the_lesson(lesson_id):
    code = "\n".join(cell.source for cell in read(lesson_id).cells if cell.cell_type == "code" and cell.id != "set-up")
    (value,) = [
        ast.get_source_segment(code, node.value)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "lesson"
    ]
    assert _lesson(value) == LESSONS[lesson_id]
    named = re.sub(r'LESSONS\["(\w+)"\]', lambda match: match[1].upper(), value)  # as lessons.py writes it
    line = rf"^{re.escape(f'{lesson_id.upper()} = {named}')}(  # .*)?$"
    assert re.search(line, (ROOT / "mnist_jax" / "lessons.py").read_text(), re.MULTILINE)
    assert f'assert lesson == LESSONS["{lesson_id}"]' in code


@each
def test_kept_outputs_are_clean(lesson_id):
    notebook = read(lesson_id)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.metadata and re.fullmatch("[a-z-]+", cell.id) for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, 1 + len(code)))
    found = outputs(notebook)
    assert sum("image/png" in output.get("data", {}) for output in found) >= 2
    assert {output.output_type for output in found} <= {"stream", "execute_result", "display_data"}
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in found]
    assert not re.search(r"(^|[\s'\"=(])(~?/|[A-Za-z]:\\)", "\n".join(texts)), "an absolute path"


@each
def test_links_and_exercises(lesson_id, monkeypatch):
    text = "\n".join(cell.source for cell in read(lesson_id).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (ROOT / "notebooks" / target).exists()

    def stop(study, lessons, *_, **__):
        trained.extend(lessons.values())
        raise NotImplementedError

    trained = []
    monkeypatch.setattr(cli, "run_lessons", stop)
    exercises = [part.replace("\n", " ") for part in re.findall(r"`([^`]+)`", text.split("## Try it")[1])]
    changed = [_lesson(part, LESSONS[lesson_id]) for part in exercises if part.startswith("dataclasses.replace")]
    commands = [part for part in exercises if part.startswith("mnist-jax ")]
    for command in commands:
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(NotImplementedError):
            cli.main()
    assert changed
    assert trained == changed


def _lesson(expression, lesson=None):
    """The value of a notebook's expression."""
    names = {"dataclasses": dataclasses, "LESSONS": LESSONS, "Lesson": Lesson, "optimizer": optimizer}
    return eval(expression, {**names, "lesson": lesson})


def test_set_up_cell_installs_the_project_where_missing():
    """The set-up cells are the same; without the project they ask pip for it, once."""
    (source,) = {cell.source for lesson_id in LESSONS for cell in read(lesson_id).cells if cell.id == "set-up"}
    assert source == script("notebooks/run.py").SET_UP
    without = """
import importlib.util
from IPython.core.magic import register_line_magic

importlib.util.find_spec = lambda name: None


@register_line_magic
def pip(line):
    print(line)
"""
    notebook = new_notebook(cells=[new_code_cell(without), new_code_cell(source)])
    script("notebooks/run.py").run(notebook)
    (printed,) = outputs(notebook)
    assert printed.text == f'install -q "mnist_jax[app] @ git+{ADDRESS}"\n'


def test_project_address_is_consistent():
    """Also in links to Colab, which name the repository without github.com."""
    kinds = {".cff", ".ipynb", ".md", ".py", ".toml"}
    files = [path for folder in ROOT.iterdir() if folder.name[0] != "." for path in [folder, *folder.rglob("*")]]
    found = {
        owner
        for path in files
        if path.suffix in kinds and path.is_file()
        for owner in re.findall(r"github(?:\.com)?[/:]([\w.-]+)/mnist_jax\b", path.read_text())
    }
    assert re.fullmatch(r"https://github\.com/[\w.-]+/mnist_jax", ADDRESS)
    assert found == {ADDRESS.split("/")[-2]}
