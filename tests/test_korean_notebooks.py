"""The notebooks in Korean: the English ones' code and outputs, and text of their own that says the same.

So what tests/test_notebooks.py holds of the code holds here too; one of them runs from start to end all the same.
"""

import copy
import re

import nbformat
import pytest
from helpers import ROOT, script
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mnist_jax import LESSONS

NAMES = [f"{n}_{lesson_id}.ipynb" for n, lesson_id in enumerate(LESSONS, start=1)]
FOLDER = ROOT / "notebooks"
each = pytest.mark.parametrize("name", NAMES)


def pairs(name):
    """The text cells in English and in Korean, by their ids."""
    both = (nbformat.read(folder / name, as_version=4) for folder in (FOLDER, FOLDER / "ko"))
    texts = [{cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"} for notebook in both]
    assert list(texts[0]) == list(texts[1])
    return {cell: (english, texts[1][cell]) for cell, english in texts[0].items()}


def links(text):
    return re.findall(r"\]\(([^)]+)\)", text)


def formulas(text):
    """The formulas between dollar signs, without words."""
    return [re.sub(r"\\text\{[^}]*\}|\s", "", formula) for formula in re.findall(r"\$\$?([^$]+)\$\$?", text)]


def test_each_notebook_is_there_in_korean():
    assert sorted(path.name for path in (FOLDER / "ko").iterdir() if path.name[0] != ".") == NAMES


@each
def test_korean_notebook_has_the_same_code_and_outputs(name):
    """Byte for byte what notebooks/run.py makes of the English one."""
    english, korean = (nbformat.read(folder / name, as_version=4) for folder in (FOLDER, FOLDER / "ko"))
    made = script("notebooks/run.py").with_text_of(korean, english)
    assert nbformat.writes(made) == nbformat.writes(korean)


@each
def test_every_comment_is_korean(name):
    cells = nbformat.read(FOLDER / "ko" / name, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    comments = re.findall(r'# .*|""".*?"""', code)
    assert comments
    assert [comment for comment in comments if not re.search("[가-힣]", comment)] == []


@each
def test_every_text_cell_is_korean(name):
    for cell, (english, korean) in pairs(name).items():
        assert not re.search("[가-힣]", english.replace("[한국어]", "")), cell
        # Without code, formulas, links and what is in brackets or in italics, which name figures' labels.
        prose = re.sub(r"`[^`]*`|\$\$?[^$]*\$\$?|\[[^]]*\]\([^)]*\)|\([^)]*\)|\*[\w ,/]+\*", "", korean)
        assert len(re.findall("[가-힣]", prose)) > 2 * len(re.findall("[A-Za-z]", prose)), cell


@each
def test_korean_text_has_the_same_names_formulas_and_numbers(name):
    for cell, (english, korean) in pairs(name).items():
        ours, theirs = (
            {span.replace("\n", " ") for span in re.findall("`([^`]+)`", text)} for text in (english, korean)
        )
        assert theirs == ours, cell
        assert set(formulas(korean)) == set(formulas(english)), cell
        ours, theirs = (set(re.findall(r"\d+(?:[.,]\d+)*", text)) for text in (english, korean))
        assert ours <= theirs, cell  # Korean may also write as digits what English writes as a word


@each
def test_korean_links_match_the_english_and_exist(name):
    for cell, (english, korean) in pairs(name).items():
        ours = {f"ko/{name}": f"../{name}", "../README.md": "../../README.ko.md"}
        assert links(korean) == [ours.get(target, target) for target in links(english)], cell
        for target in links(korean):
            assert target.startswith("https://") or (FOLDER / "ko" / target).exists(), target
    assert links(pairs(name)["title"][0])[0] == f"ko/{name}"


@each
def test_emphasis_is_rendered(name):
    """Stars between a bracket or sign and a particle stay as they are typed, and two `~` strike out what is between."""
    for cell, texts in pairs(name).items():
        for text in texts:
            rendered = MarkdownIt().enable("strikethrough").render(re.sub(r"\$\$?[^$]+\$\$?", "x", text))
            assert not re.search(r"\*|<s>", re.sub(r"<code>.*?</code>", "", rendered, flags=re.DOTALL)), cell


@pytest.mark.slow
def test_korean_notebook_runs_from_start_to_end():
    notebook = nbformat.read(FOLDER / "ko" / NAMES[0], as_version=4)
    kept = copy.deepcopy(notebook.cells)
    script("notebooks/run.py").run(notebook)
    printed, before = (
        [output.text for cell in cells if cell.cell_type == "code" for output in cell.outputs if "text" in output]
        for cells in (notebook.cells, kept)
    )
    digits = r"\d+(?:\.\d+)?"  # which differ a little from one processor to another
    assert [re.sub(digits, "0", text) for text in printed] == [re.sub(digits, "0", text) for text in before]


# --- notebooks/run.py ---


@pytest.fixture
def renewed(tmp_path, run_main, monkeypatch):
    """Runs notebooks/run.py on a notebook in both languages, with one more text cell in `extra`."""

    def text(source, cell):
        return new_markdown_cell(source, id=cell)

    def renew(*options, english=(), korean=()):
        code = [new_code_cell("installs", id="set-up"), new_code_cell("print(6 * 7)", id="sum")]
        stale = [new_code_cell("print(1)", id="sum")]
        (tmp_path / "ko").mkdir()
        ours = [text("Text", "title"), *code, *(text("More", cell) for cell in english)]
        theirs = [text("글", "title"), *stale, *(text("더", cell) for cell in korean)]
        paths = [tmp_path / "a.ipynb", tmp_path / "ko" / "a.ipynb"]
        for path, cells in zip(paths, (ours, theirs), strict=True):
            nbformat.write(new_notebook(cells=cells), path)
        program = script("notebooks/run.py")
        monkeypatch.setattr(program, "SET_UP", "installed = True")
        done = run_main(program.main, *options, paths[0])
        return done, [nbformat.read(path, as_version=4).cells for path in paths]

    return renew


def test_run_writes_outputs_into_both_languages(renewed):
    (status, _, err), (english, korean) = renewed()
    assert (status, err) == (0, "")
    assert [cell.source for cell in english] == ["Text", "installed = True", "print(6 * 7)"]
    assert [cell.source for cell in korean] == ["글", "installed = True", "print(6 * 7)"]
    assert english[1:] == korean[1:]
    assert korean[2].outputs[0].text == "42\n"


def test_no_run_copies_code_and_outputs_only(renewed):
    (status, _, err), (english, korean) = renewed("--no-run")
    assert (status, err) == (0, "")
    assert english[1:] == korean[1:]
    assert [cell.source for cell in korean] == ["글", "installed = True", "print(6 * 7)"]
    assert korean[2].outputs == []


@pytest.mark.parametrize("extra", [{"english": ["new"]}, {"korean": ["new"]}])
def test_text_in_one_language_only_is_refused(renewed, extra):
    (status, _, err), (_, korean) = renewed("--no-run", **extra)
    assert status == 2
    assert "only one of the two languages has the text cell 'new'" in err
    assert korean[1].source == "print(1)"  # nothing is written


def test_korean_notebook_is_not_run_on_its_own(run_main):
    status, _, err = run_main(script("notebooks/run.py").main, FOLDER / "ko" / NAMES[0])
    assert status == 2
    assert f"name ../{NAMES[0]}, which renews both" in err


def test_file_that_is_no_notebook_is_refused(run_main, tmp_path):
    status, _, err = run_main(script("notebooks/run.py").main, tmp_path / "missing.ipynb")
    assert status == 2
    assert "is not a notebook" in err
