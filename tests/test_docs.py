"""The documents: their links lead somewhere, what is generated is up to date, and what they name exists."""

import re
from importlib import import_module

import pytest
from helpers import ROOT, script

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/parity/*.md")]
}
DESIGN = PAGES["docs/design.md"]
WALK = re.findall(r"`([a-z_]+(?:\.\w+)+)`", DESIGN.split("## A walk")[1])
TESTS = [
    (page, test)
    for page, text in PAGES.items()
    for test in dict.fromkeys(re.findall(r"`(tests/[\w/]+\.py::\w+)`", text))
]


def links(text):
    """Targets of links and images, without those in code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return dict.fromkeys(re.findall(r"\]\(([^)\s]+)\)", prose))


def anchors(text):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target"), [(page, target) for page, text in PAGES.items() for target in links(text)])
def test_links_lead_to_a_file_and_its_heading(page, target):
    path, _, anchor = target.partition("#")
    if not path.startswith("https://"):
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists()
        assert not anchor or anchor in anchors(file.read_text())


@pytest.fixture(scope="module")
def writer():
    return script("docs/write.py")


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("README", "docs/"))])
def test_generated_blocks_are_up_to_date(page, writer):
    assert writer.written(PAGES[page], "ko" if ".ko." in page else "en") == PAGES[page]


def test_every_recorded_study_is_among_the_results(writer):
    shown = {name for page in ("README.md", "docs/results.md") for name, _ in writer.BLOCK.findall(PAGES[page])}
    assert {path.name for path in writer.RECORDED.iterdir()} <= shown


def test_a_finding_that_a_study_no_longer_says_is_an_error(writer):
    with pytest.raises(ValueError, match="write the finding again"):
        writer.found("none of the .* is outside", "one of the 120 published points is outside")


def test_options_of_a_command_are_those_of_its_help(writer):
    tables = {name: writer.section(name, parser, "") for name, parser in writer.programs().items()}
    assert "| `--port INT` |" in tables["mnist-jax demo"]
    assert "Shared options: [digits](#options-digits)" in tables["ladder.py"]
    assert "--tensorboard" in writer.shared_options()


@pytest.mark.parametrize("name", [name for name in dict.fromkeys(WALK) if not name.startswith("jax.")])
def test_names_in_the_walk_exist(name):
    *modules, last = name.split(".")
    if modules[-1][0].isupper():
        *modules, kind = modules
        assert hasattr(getattr(import_module(".".join(["mnist_jax", *modules])), kind), last)
    else:
        assert hasattr(import_module(".".join(["mnist_jax", *modules])), last)


def test_the_design_names_every_folder():
    folders = [path.parent.name for path in sorted((ROOT / "mnist_jax").glob("*/__init__.py"))]
    assert sorted(re.findall(r"^\| `(\w+)/` \|", DESIGN, re.MULTILINE)) == folders


@pytest.mark.parametrize(("page", "test"), TESTS)
def test_named_tests_exist(page, test):
    file, name = test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_promises_are_held_by_tests():
    assert len([page for page, _ in TESTS if page == "docs/promises.md"]) > 50
