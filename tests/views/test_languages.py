"""Both languages say the same, and a Korean page has nothing in English but what programs recorded."""

import re
import shutil
import string

import pytest
from helpers import ROOT
from helpers.report import STUDIES, Page, reported

from mnist_jax.cli import commands as cli
from mnist_jax.views import report
from mnist_jax.views.languages import COLUMNS, LANGUAGES, READING, WORDS, Count

SHOWN = (  # studies
    "sgd_vs_adam", "optimizers", "all_of_optax", "running_variance", "initialisation", "reproduce_notebooks"
)  # fmt: skip


def values_named(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def english_in(source):
    """Runs of English words in a page, without what is recorded, labels in italics and glosses in brackets."""
    alternatives = [image["alt"] for image in Page(source).all("img")]
    kept = re.sub(
        r'<div[^>]*lang="en".*?</div>|<em>.*?</em>|<dd>.*?</dd>|<style>.*?</style>', "", source, flags=re.DOTALL
    )
    texts = [re.sub(r"\([^()가-힣]*\)", "", text) for text in (*Page(kept).words, *alternatives)]
    return [found for text in texts for found in re.findall(r"[A-Za-z]+(?: [a-z]+){2,}", text)]


def test_languages_have_the_same_keys_and_placeholders():
    for language in LANGUAGES:
        named = {name: values_named(text) for name, text in WORDS[language].items()}
        assert named == {name: values_named(text) for name, text in WORDS["en"].items()}


def test_every_figure_is_explained_in_korean():
    assert set(READING["ko"]) == {*report.READ, *report.STUDY_FIGURES}
    sources = [path for folder in ("mnist_jax", "experiments") for path in (ROOT / folder).rglob("*.py")]
    drawn = "".join(path.read_text() for path in sources if path.name != "korean.py").replace("\\n", " ")
    labels = {label for text in READING["ko"].values() for label in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text)}
    assert {label for label in labels if label not in drawn} == set()


@pytest.mark.parametrize("study", SHOWN)
def test_every_column_of_a_study_is_explained_in_korean(study):
    headings = re.findall(r"^\| (.*) \|\n\| ---", (STUDIES / study / "README.md").read_text(), re.MULTILINE)
    cells = {re.sub(r"\d[\d,.]*", "#", cell) for heading in headings for cell in heading.split(" | ")}
    assert cells
    assert cells <= COLUMNS["ko"].keys()


def test_no_column_is_explained_that_no_study_has():
    tables = "".join(re.sub(r"\d[\d,.]*", "#", (STUDIES / study / "README.md").read_text()) for study in SHOWN)
    assert [name for name in COLUMNS["ko"] if not re.search(rf"\| {re.escape(name)} \|", tables)] == []


def test_korean_report_has_no_english_but_what_was_recorded(korean_page):
    source = korean_page.read_text()
    assert english_in(source) == []
    page = Page(source)
    assert page.all("html") == [{"lang": "ko"}]
    assert "adam 실습의 신경망입니다" in page.text
    assert "2에포크 학습" in page.text
    assert not re.search(r"\{\w+\}|`|\*\*", page.text)


def test_english_is_found(ladder_page):
    assert "one picture per unit" in " ".join(english_in(ladder_page.read_text()))


@pytest.mark.parametrize("study", SHOWN)
def test_korean_report_of_a_study(run_main, tmp_path, study):
    source = reported(run_main, shutil.copytree(STUDIES / study, tmp_path / study), "--language", "ko")
    assert english_in(source) == []
    assert "표 읽는 법." in source


def test_korean_report_of_other_runs(run_main, toy_ladder, toy_folder, tmp_path):
    """Of a changed lesson, of one that diverged, and of an imported net."""
    arguments = ["train", "relu", "--hidden", 20, "--epochs", 1, "--data", toy_folder]
    assert run_main(cli.main, *arguments, "--out", tmp_path / "run")[0] == 0
    assert run_main(cli.main, *arguments, "--learning-rate", 1e30, "--out", tmp_path / "lost")[0] == 0
    file = tmp_path / "net.safetensors"
    assert run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", file)[0] == 0
    imported = ["--lesson", "adam", "--data", toy_folder, "--out", tmp_path / "imported"]
    assert run_main(cli.main, "import", file, *imported)[0] == 0
    said = {
        "run": "강의와 다른 설정: hidden (20,)",
        "lost": "학습이 발산했거나 체크포인트가 없음",
        "imported": "테스트 이미지 20장으로 평가했습니다.",
    }
    for run, words in said.items():
        source = reported(run_main, tmp_path / run, "--language", "ko")
        assert words in Page(source).text.replace("\u2060", "")
        assert english_in(source) == []


def test_counts():
    assert [f"{Count(n):seed}" for n in (0, 1, 1000)] == ["0 seeds", "1 seed", "1,000 seeds"]
    assert f"{Count(1000)}" == "1,000"
