import json
import re
import shutil

import pytest
from helpers import ROOT, jax_setting, toy_digits, write_idx_folder
from helpers.browser import chromium, requested
from helpers.report import Page, reported

from mnist_jax import LESSONS
from mnist_jax.cli import commands as cli
from mnist_jax.data.arrays import KNOWN, digest
from mnist_jax.lessons import IDEAS
from mnist_jax.runs.files import RESULTS
from mnist_jax.views import ladder, report
from mnist_jax.views.facts import facts


def test_report_shows_everything_known_about_a_ladder(ladder_page):
    page = Page(ladder_page.read_text())
    results = json.loads((ladder_page.parent / RESULTS).read_text())
    for cell in [*ladder.header(results), *(cell for row in ladder.rows(results) for cell in row)]:
        assert cell in page.text
    for lesson_id in LESSONS:
        assert {"href": f"#{lesson_id}"} in page.all("a")
        assert IDEAS[lesson_id] in page.text
        assert f"the net of lesson {lesson_id}, seed 0, after epoch 2" in page.text
    alternatives = [image["alt"] for image in page.all("img")]
    assert len([words for words in alternatives if words.startswith("Confusion matrix.")]) == 6
    assert len([words for words in alternatives if words.startswith("Reliability diagram.")]) == 6
    assert len([words for words in alternatives if words.startswith("The first layer's weights")]) == 6
    assert len([words for words in alternatives if words.startswith("Histograms of weights")]) == 6
    for figure in ("Test accuracy after each epoch", "Test loss after each epoch", "Gain in test accuracy"):
        assert any(words.startswith(figure) for words in alternatives)
    assert "`" not in page.text
    assert results["config"]["command"] in page.text
    assert results["data"]["sha256"] in page.text
    for name, value in facts(results):
        assert " ".join(f"{name} {value}".split()) in page.text


def test_report_has_no_scripts_or_external_links(ladder_page):
    source = ladder_page.read_text()
    page = Page(source)
    assert page.all("script") == []
    links = {"src", "href", "srcset"}
    addresses = [attributes[name] for _, attributes in page.tags for name in links & set(attributes)]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in source
    assert all(image.get("alt") for image in page.all("img"))
    # Every figure is there for a light page and for a dark one.
    dark = [source["srcset"] for source in page.all("source")]
    same = ("Test image", "The first layer's weights")  # in both
    light = [image["src"] for image in page.all("img") if not image["alt"].startswith(same)]
    assert len(dark) == len(light) == len(LESSONS) * 3 + 3
    assert not any(map(str.__eq__, dark, light))


def test_worst_mistakes_come_first(ladder_page):
    from mnist_jax import data
    from mnist_jax.nets.trained import probabilities, read_nets

    run = ladder_page.parent
    page = Page(ladder_page.read_text())
    test = data.load(json.loads((run / RESULTS).read_text())["data"]["where"], "notebooks").test
    expected = []
    for net in read_nets(run):
        found = probabilities(net, test.images)
        wrong = [i for i in range(test.size) if found[i].argmax() != test.labels[i]]
        worst = sorted(wrong, key=lambda i: found[i][test.labels[i]])[:12]
        expected += [f"Test image {i}: {test.labels[i]}, taken for {found[i].argmax()}" for i in worst]
    assert expected
    assert [image["alt"] for image in page.all("img") if image["alt"].startswith("Test image")] == expected


def test_classes_have_their_names_in_reports_and_predictions(run_main, tmp_path, monkeypatch):
    train, test = toy_digits(72), toy_digits(20, seed=1)
    monkeypatch.setitem(KNOWN, digest(train, test), "Fashion-MNIST")
    arguments = ["--hidden", 8, "--epochs", 1, "--data", write_idx_folder(tmp_path / "idx", train, test)]
    assert run_main(cli.main, "train", "mlp", *arguments, "--out", tmp_path / "run")[0] == 0
    alts = " ".join(image["alt"] for image in Page(reported(run_main, tmp_path / "run")).all("img"))
    assert re.search(r"Test image \d+: (trouser|dress|coat), taken for [a-zT]", alts)
    status, out, _ = run_main(cli.main, "predict", tmp_path / "run", ROOT / "docs" / "seven.png")
    assert (status, "trouser" in out, "Probability of each class" in out) == (0, True, True)


def test_a_run_of_one_changed_lesson(run_main, toy_folder, tmp_path):
    run = tmp_path / "a <b>run</b> & more"
    arguments = ["--hidden", 20, "--activation", "tanh", "--epochs", 1, "--data", toy_folder]
    assert run_main(cli.main, "train", "relu", *arguments, "--out", run)[0] == 0
    page = Page(reported(run_main, run))
    assert "a <b>run</b> & more" in page.text  # as text, not as tags
    assert page.all("b") == []
    assert "Other than in the course: hidden (20,) instead of (512, 256), activation tanh instead of relu." in page.text
    assert "of all 20 units" in page.text
    assert "One seed cannot tell" not in page.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_threefry_partitionable", False),
        pytest.param("jax_default_prng_impl", "rbg", marks=pytest.mark.slow),
    ],
)
def test_initial_weights_are_shown_only_if_reproducible(run_main, toy_folder, tmp_path, name, value):
    arguments = ["train", "relu", "--hidden", 20, "--epochs", 1, "--data", toy_folder]
    assert run_main(cli.main, *arguments, "--out", tmp_path / "here")[0] == 0
    with jax_setting(name, value):
        assert run_main(cli.main, *arguments, "--out", tmp_path / "elsewhere")[0] == 0
    for run, when in (("here", "before the first step and after the last"), ("elsewhere", "after the last step")):
        page = Page(reported(run_main, tmp_path / run))
        (words,) = [image["alt"] for image in page.all("img") if image["alt"].startswith("Histograms of weights")]
        assert f"Weights {when}; their standard deviation" in words
        assert (" to " in words) == (run == "here")


def test_diverged_run_has_no_net_pictures(run_main, toy_folder, tmp_path):
    arguments = ["--activation", "relu", "--learning-rate", 1e30, "--data", toy_folder]
    assert run_main(cli.main, "train", "mlp", *arguments, "--out", tmp_path / "run")[0] == 0
    page = Page(reported(run_main, tmp_path / "run"))
    assert "(1 diverged)" in page.text
    assert "No net to show of mlp: it diverged" in page.text
    assert "other activation; other optimizer" in page.text
    assert not any("Confusion" in image["alt"] for image in page.all("img"))


def test_report_of_an_imported_net(run_main, toy_ladder, tmp_path):
    file = tmp_path / "net.safetensors"
    assert run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", file)[0] == 0
    digits = toy_ladder.parent / "toy"
    run = tmp_path / "run"
    assert run_main(cli.main, "import", file, "--lesson", "adam", "--data", digits, "--out", run)[0] == 0
    page = Page(reported(run_main, run))
    assert "the net of lesson adam, imported" in page.text
    assert "net.safetensors, SHA-256" in page.text
    assert "Imported, and tested on the 20 test images" in page.text
    assert "as imported" in page.text
    assert not any("after each epoch" in image["alt"] for image in page.all("img"))


@pytest.mark.parametrize(
    ("study", "figures"),
    [
        ("sgd_vs_adam", 4),
        ("optimizers", 3),
        ("running_variance", 0),
        ("initialisation", 1),
        ("reproduce_notebooks", 4),
    ],
)  # fmt: skip
def test_report_shows_study_tables_and_figures(run_main, tmp_path, study, figures):
    recorded = ROOT / "experiments" / "results" / study
    page = Page(reported(run_main, shutil.copytree(recorded, tmp_path / study)))
    assert len(page.all("img")) == figures
    lines = (recorded / "README.md").read_text().splitlines()
    words = next(line for line in lines if line.startswith("|")).strip("| ").split(" | ")
    headings = "".join(page.text.split())
    assert all("".join(word.split()) in headings for word in words)
    assert page.all("table")


def test_study_table_is_escaped(run_main, tmp_path):
    recorded = ROOT / "experiments" / "results" / "running_variance"
    run = shutil.copytree(recorded, tmp_path / "study")
    (run / "README.md").write_text("<script>alert(1)</script> [x](javascript:alert(1)) | a |\n")
    page = Page(reported(run_main, run))
    assert page.all("script") == page.all("a") == []


def test_moved_digits_must_be_named(run_main, toy_folder, tmp_path):
    run, changed = tmp_path / "run", shutil.copytree(toy_folder, tmp_path / "changed")
    arguments = ["--hidden", 8, "--epochs", 1, "--data", toy_folder]
    assert run_main(cli.main, "train", "mlp", *arguments, "--out", run)[0] == 0
    results = json.loads((run / RESULTS).read_text())
    results["data"]["where"] += "-gone"
    (run / RESULTS).write_text(json.dumps(results))
    status, _, err = run_main(cli.main, "report", run)
    assert status == 2
    assert "with --data" in err
    reported(run_main, run, "--data", toy_folder)
    (changed / "t10k-labels-idx1-ubyte.gz").write_bytes((changed / "train-labels-idx1-ubyte.gz").read_bytes())
    for other in (changed, "sample"):
        assert run_main(cli.main, "report", run, "--data", other)[0] == 2
    del results["data"]["where"]  # as in older records
    (run / RESULTS).write_text(json.dumps(results))
    status, _, err = run_main(cli.main, "report", run)
    assert status == 2
    assert err == "error: Where this run's digits were is not recorded; name their folder with --data.\n"
    reported(run_main, run, "--data", toy_folder)


@pytest.mark.parametrize("results", [True, False])
def test_digits_of_a_relative_folder_are_found_where_it_was_named(run_main, toy_folder, tmp_path, monkeypatch, results):
    monkeypatch.chdir(toy_folder.parent)
    arguments = ["--hidden", 8, "--epochs", 1, "--data", toy_folder.name]
    assert run_main(cli.main, "train", "mlp", *arguments, "--out", tmp_path / "run")[0] == 0
    if not results:
        (tmp_path / "run" / RESULTS).unlink()
    assert "Test image" in reported(run_main, tmp_path / "run")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    status, _, err = run_main(cli.main, "report", tmp_path / "run")
    assert status == 2
    assert err.endswith("Name where they are now with --data.\n")


def test_report_of_a_run_in_its_first_lesson(run_main, toy_ladder, tmp_path):
    run = shutil.copytree(toy_ladder, tmp_path / "run")
    (run / RESULTS).unlink()  # which is written after each lesson
    page = Page(reported(run_main, run))
    assert "--split notebooks" in page.text  # its command
    assert "the net of lesson adam, seed 0, after epoch 2" in page.text
    assert "Not finished yet: mlp, dropout, relu, batch_norm, he, adam." in page.text


def test_internal_error_keeps_its_traceback(run_main, recorded, monkeypatch):
    def bug(*_):
        raise KeyError("ours")

    results, write = recorded
    monkeypatch.setattr(report, "curves_of_lessons", bug)
    with pytest.raises(KeyError, match="ours"):
        run_main(cli.main, "report", write(results))


def test_undecodable_names_are_shown_with_replacements(run_main, recorded):
    results, write = recorded
    results["config"]["command"] += " --data 'b\udcff'"
    run = write(results)
    (run / "README.md").write_bytes(b"\xff")
    (run / "learning_rates.png").write_bytes(b"\xff")
    assert "--data 'b?'" in Page(reported(run_main, run)).text


def test_unknown_seed_is_refused(run_main, toy_ladder, tmp_path):
    status, _, err = run_main(cli.main, "report", toy_ladder, "--seed", 7, "--out", tmp_path / "page.html")
    assert status == 2
    assert "of seed 7" in err
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_not_overwritten(run_main, toy_ladder, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    status, _, err = run_main(cli.main, "report", toy_ladder, "--out", tmp_path / "mine.html")
    assert status == 2
    assert "already exists" in err
    assert (tmp_path / "mine.html").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
@pytest.mark.parametrize("name", ["ladder_page", "korean_page"])
def test_report_in_desktop_and_phone_browsers(request, name, width, dark):
    ladder_page = request.getfixturevalue(name)
    with chromium(width=width, dark=dark) as driver:
        driver.get(ladder_page.as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.execute_script("return [...document.images].every(image => image.complete && image.naturalWidth)")
        shown = driver.execute_script("return document.querySelector('picture img').currentSrc")
        source = ladder_page.read_text()
        assert shown == re.search(r'<source srcset="([^"]+)"' if dark else r'<img src="([^"]+)"', source)[1]
        assert driver.get_log("browser") == []
        assert {url for url in requested(driver) if not url.startswith("data:")} == {ladder_page.as_uri()}
        sizes = driver.execute_script(
            "return [...document.querySelectorAll('p,td,th,figcaption,dd')]"
            ".map(element => parseFloat(getComputedStyle(element).fontSize))"
        )
        assert min(sizes) >= 12
