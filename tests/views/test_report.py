import copy
import html.parser
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, jax_setting
from helpers.browser import chromium, requested

from mnist_jax import LESSONS, UserError
from mnist_jax.cli import commands as cli
from mnist_jax.lessons import IDEAS
from mnist_jax.nets.trained import read_run
from mnist_jax.runs.files import RESULTS
from mnist_jax.studies.stats import Bin, calibration, expected_calibration_error
from mnist_jax.views import ladder, report
from mnist_jax.views.net_figures import calibration_figure, confusion_figure, first_layer_figure, weights_figure
from mnist_jax.views.report import Picture, _confusion, report_page

STUDIES = ROOT / "experiments" / "results"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, wanted):
        return [attributes for tag, attributes in self.tags if tag == wanted]


def reported(run_main, run, *options):
    status, out, err = run_main(cli.main, "report", run, *options)
    assert (status, err) == (0, "")
    assert "report.html" in out
    return (run / "report.html").read_text()


@pytest.fixture(scope="module")
def ladder_page(toy_ladder, tmp_path_factory):
    """The page of a ladder; made in a copy, since other tests use the run."""
    run = shutil.copytree(toy_ladder, tmp_path_factory.mktemp("report") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mnist-jax", "report", str(run)])
        cli.main()
    return run / "report.html"


def test_the_page_has_all_that_is_known_of_a_ladder(ladder_page):
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


def test_it_needs_no_network_and_runs_nothing(ladder_page):
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


def test_the_worst_mistakes_are_shown_worst_first(ladder_page):
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
        expected += [f"Test image {i}, a {test.labels[i]} taken for a {found[i].argmax()}" for i in worst]
    assert expected
    assert [image["alt"] for image in page.all("img") if image["alt"].startswith("Test image")] == expected


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


@pytest.mark.parametrize(("name", "value"), [("jax_threefry_partitionable", False), ("jax_default_prng_impl", "rbg")])
def test_initial_weights_are_shown_only_where_they_are_the_run_s(run_main, toy_folder, tmp_path, name, value):
    arguments = ["train", "relu", "--hidden", 20, "--epochs", 1, "--data", toy_folder]
    assert run_main(cli.main, *arguments, "--out", tmp_path / "here")[0] == 0
    with jax_setting(name, value):
        assert run_main(cli.main, *arguments, "--out", tmp_path / "elsewhere")[0] == 0
    for run, when in (("here", "before the first step and after the last"), ("elsewhere", "after the last step")):
        page = Page(reported(run_main, tmp_path / run))
        (words,) = [image["alt"] for image in page.all("img") if image["alt"].startswith("Histograms of weights")]
        assert f"Weights {when}; their standard deviation" in words
        assert (" to " in words) == (run == "here")


def test_a_run_that_diverged_has_no_pictures_of_its_net(run_main, toy_folder, tmp_path):
    arguments = ["--activation", "relu", "--learning-rate", 1e30, "--data", toy_folder]
    assert run_main(cli.main, "train", "mlp", *arguments, "--out", tmp_path / "run")[0] == 0
    page = Page(reported(run_main, tmp_path / "run"))
    assert "(1 diverged)" in page.text
    assert "No net to show of mlp: it diverged" in page.text
    assert "other activation; other optimizer" in page.text
    assert not any("Confusion" in image["alt"] for image in page.all("img"))


def test_an_imported_net(run_main, toy_ladder, tmp_path):
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
        ("sgd_vs_adam", 2),
        ("optimizers", 1),
        ("running_variance", 0),
        ("initialisation", 1),
        ("reproduce_notebooks", 4),
    ],
)  # fmt: skip
def test_a_study_s_own_tables_and_figures(run_main, tmp_path, study, figures):
    recorded = ROOT / "experiments" / "results" / study
    page = Page(reported(run_main, shutil.copytree(recorded, tmp_path / study)))
    assert len(page.all("img")) == figures
    words = (recorded / "README.md").read_text().splitlines()[0].strip("| ").split(" | ")
    headings = "".join(page.text.split())
    assert all("".join(word.split()) in headings for word in words)
    assert page.all("table")


def test_a_study_s_words_are_text_and_not_tags(run_main, tmp_path):
    recorded = ROOT / "experiments" / "results" / "running_variance"
    run = shutil.copytree(recorded, tmp_path / "study")
    (run / "README.md").write_text("<script>alert(1)</script> [x](javascript:alert(1)) | a |\n")
    page = Page(reported(run_main, run))
    assert page.all("script") == page.all("a") == []


def test_digits_that_are_not_where_they_were(run_main, toy_ladder, toy_folder, tmp_path):
    run = shutil.copytree(toy_ladder, tmp_path / "run")
    results = json.loads((run / RESULTS).read_text())
    results["data"]["where"] += "-gone"
    (run / RESULTS).write_text(json.dumps(results))
    status, _, err = run_main(cli.main, "report", run)
    assert status == 2
    assert "with --data" in err
    reported(run_main, run, "--data", toy_ladder.parent / "toy")
    (toy_folder / "t10k-labels-idx1-ubyte.gz").write_bytes((toy_folder / "train-labels-idx1-ubyte.gz").read_bytes())
    for other in (toy_folder, "sample"):
        assert run_main(cli.main, "report", run, "--data", other)[0] == 2
    del results["data"]["where"]  # as in older records
    (run / RESULTS).write_text(json.dumps(results))
    status, _, err = run_main(cli.main, "report", run)
    assert status == 2
    assert err == "error: Where this run's digits were is not recorded; name their folder with --data.\n"
    reported(run_main, run, "--data", toy_ladder.parent / "toy")


@pytest.mark.parametrize("results", [True, False])
def test_digits_of_a_relative_folder_are_found_from_anywhere(run_main, toy_folder, tmp_path, monkeypatch, results):
    monkeypatch.chdir(toy_folder.parent)
    arguments = ["--hidden", 8, "--epochs", 1, "--data", toy_folder.name]
    assert run_main(cli.main, "train", "mlp", *arguments, "--out", tmp_path / "run")[0] == 0
    if not results:
        (tmp_path / "run" / RESULTS).unlink()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "Test image" in reported(run_main, tmp_path / "run")


def test_a_run_under_way_in_its_first_lesson(run_main, toy_ladder, tmp_path):
    run = shutil.copytree(toy_ladder, tmp_path / "run")
    (run / RESULTS).unlink()  # which is written after each lesson
    page = Page(reported(run_main, run))
    assert "--split notebooks" in page.text  # its command
    assert "the net of lesson adam, seed 0, after epoch 2" in page.text
    assert "Not finished yet: mlp, dropout, relu, batch_norm, he, adam." in page.text


@pytest.fixture
def recorded(tmp_path):
    """Results of a run of six lessons with five seeds, as recorded, and what writes others into its folder."""

    def write(results):
        (tmp_path / RESULTS).write_text(json.dumps(results))
        return tmp_path

    return json.loads((STUDIES / "ladder" / RESULTS).read_text()), write


def changed(results, *way, value):
    """A copy with another value at the end of the way; a function is called with what was there."""
    results = copy.deepcopy(results)
    place = results
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = value(place[way[-1]]) if callable(value) else value
    return results


def without(name):
    return lambda values: {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    ("way", "value", "says"),
    [
        (("data",), [], "Expected `object`, got `array` - at `$.data`"),
        (("data", "source"), "moon", "Invalid enum value 'moon' - at `$.data.source`"),
        (("data", "test"), 0, "Expected `int` >= 1 - at `$.data.test`"),
        (("data", "train"), 55000.5, "Expected `int`, got `float` - at `$.data.train`"),
        (("config",), without("lessons"), "Object missing required field `lessons` - at `$.config`"),
        (("config",), without("epochs"), "Object missing required field `epochs` - at `$.config`"),
        (("config", "seeds"), [], "Expected `array` of length >= 1 - at `$.config.seeds`"),
        (("config", "seeds", 1), "1", "Expected `int`, got `str` - at `$.config.seeds[1]`"),
        (("data", "where"), 5, "Expected `str | null`, got `int` - at `$.data.where`"),
        (("config", "lessons"), without("he"), "No such lesson was trained - at `$.lessons.he`"),
        (("config", "lessons", "he", "hidden"), 5, "at `$.config.lessons.he`"),
        (("config", "imported"), {"file": "net"}, "Object missing required field `sha256` - at `$.config.imported`"),
        (("environment",), {}, "Object missing required field `jax` - at `$.environment`"),
        (("environment", "device"), None, "Expected `str`, got `null` - at `$.environment.device`"),
        (("lessons", "cnn"), {"test_correct": []}, "Object missing required field `seeds` - at `$.lessons.cnn`"),
        (("lessons", "mlp"), 1, "Expected `object`, got `int`"),
        (("lessons", "mlp"), without("diverged"), "Object missing required field `diverged` - at `$.lessons.mlp`"),
        (("lessons", "mlp", "seeds", 0), None, "Expected `int`, got `null` - at `$.lessons.mlp.seeds[0]`"),
        (("lessons", "mlp", "seeds", 0), 7, "Expected the seeds of `$.config` - at `$.lessons.mlp.seeds`"),
        (("lessons", "mlp", "seeds"), "\udcff", "surrogates not allowed - at `$.lessons.mlp`"),
        (("lessons", "adam", "test_correct"), lambda runs: runs[1:], "length 5 - at `$.lessons.adam.test_correct`"),
        (("lessons", "adam", "test_correct", 0), [], "length 10 - at `$.lessons.adam.test_correct[0]`"),
        (("lessons", "adam", "test_correct", 0, 9), -1, "`int` >= 0 - at `$.lessons.adam.test_correct[0][9]`"),
        (("lessons", "adam", "test_correct", 0, 9), 10_001, "`int` <= 10000 - at `$.lessons.adam.test_correct[0]`"),
        (("lessons", "adam", "test_loss", 1), lambda run: run * 2, "length 10 - at `$.lessons.adam.test_loss[1]`"),
        (("lessons", "adam", "test_loss", 1, 0), float("nan"), "at `$.lessons.adam.test_loss[1][0]`"),
        (("lessons", "adam", "test_loss", 1, 0), float("inf"), "at `$.lessons.adam.test_loss[1][0]`"),
        (("lessons", "adam", "test_loss", 1, 0), -0.5, "`float` >= -0.001 - at `$.lessons.adam.test_loss[1][0]`"),
        (
            ("lessons", "adam", "seconds", 2, 0),
            True,
            "got `bool` - at `$.lessons.adam.seconds[2][0]`",
        ),
        (("lessons", "adam", "seconds", 2), [], "length 10 - at `$.lessons.adam.seconds[2]`"),
        (("lessons", "adam", "diverged", 4), 0, "Expected `bool`, got `int` - at `$.lessons.adam.diverged[4]`"),
        (("resumed_in",), [1], "Expected `object`, got `int` - at `$.resumed_in[0]`"),
    ],
)
def test_a_wrong_value_gets_a_sentence_that_says_which(run_main, recorded, way, value, says):
    results, write = recorded
    run = write(changed(results, *way, value=value))
    status, _, err = run_main(cli.main, "report", run)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {run / RESULTS} is not what a run of this program writes (")
    assert says in err


def test_what_only_a_study_knows_is_not_looked_at(run_main, recorded):
    results, write = recorded
    results["config"]["new"] = results["new"] = [{"a": None}]
    results["lessons"] = {"he": {"seeds": "all", "flax": [1]}}
    assert "sigmoid" not in Page(reported(run_main, write(results))).text


def tripled(old):
    return [old] * 3


def shortened(old):
    return old[:-1] if isinstance(old, list) else [old]


VALUES = [
    None, True, "", "x", "mlp", "a 'b", "\udcff", 0, 1, -1, 0.5, -0.5, 10**30, 1e300, float("nan"), float("inf"),
    [], {}, [[]], [None], ["x"], {"a": 1}, tripled, shortened,
]  # fmt: skip


def ways(values, start=()):
    """All places in results but within its lessons' fields, for which `test_lessons.py` does the same."""
    for step, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield (*start, step)
        if isinstance(value, dict | list) and start != ("config", "lessons"):
            yield from ways(value, (*start, step))


@pytest.mark.parametrize("value", VALUES)
def test_any_wrong_value_gives_a_page_or_a_sentence(recorded, monkeypatch, value):
    results, write = recorded
    results["lessons"] = {name: results["lessons"][name] for name in ("mlp", "dropout")}
    monkeypatch.setattr(report, "_picture", lambda alt, caption, draw, *arguments: Picture(alt, caption, ""))
    pages = []
    for way in ways(results):
        try:
            found = read_run(write(changed(results, *way, value=value)))
        except UserError:
            continue
        pages.append(found)
    assert pages  # somewhere it is allowed
    for found in pages[:: 1 + len(pages) // 30]:
        assert report_page(Path(), found, [], None)


@pytest.mark.parametrize("loss", [1e-300, 3.4e38, None])
def test_extreme_values_that_a_run_can_have_are_drawn(recorded, loss):
    results, write = recorded
    for entry in results["lessons"].values():
        entry["test_correct"] = [[0] * 10] * 5
        entry["test_loss"] = [[loss] * 10] * 5
        entry["seconds"] = [[1e9] * 10] * 5
    page = report_page(Path(), read_run(write(results)), [], None)
    assert "0.00 ± 0.00 %" in page


def test_a_bug_of_ours_shows_its_traceback(run_main, recorded, monkeypatch):
    def bug(*_):
        raise KeyError("ours")

    results, write = recorded
    monkeypatch.setattr(report, "curves_of_lessons", bug)
    with pytest.raises(KeyError, match="ours"):
        run_main(cli.main, "report", write(results))


def test_names_that_are_not_utf8_are_shown_replaced(run_main, recorded):
    results, write = recorded
    results["config"]["command"] += " --data 'b\udcff'"
    run = write(results)
    (run / "README.md").write_bytes(b"\xff")
    (run / "learning_rates.png").write_bytes(b"\xff")
    assert "--data 'b?'" in Page(reported(run_main, run)).text


def test_a_seed_that_was_not_run_is_said(run_main, toy_ladder, tmp_path):
    status, _, err = run_main(cli.main, "report", toy_ladder, "--seed", 7, "--out", tmp_path / "page.html")
    assert status == 2
    assert "of seed 7" in err
    assert list(tmp_path.iterdir()) == []


def test_the_confusion_s_words_and_axes_are_right():
    labels, answers = np.array([4] * 5 + [9] * 2 + [1]), np.array([9] * 3 + [4] * 4 + [1])
    assert "most often 4 taken for 9 (3 times), 9 taken for 4 (2 times)." in _confusion(labels, answers).alt
    assert _confusion(labels, labels).caption == "No digit is taken for another."


def test_a_file_of_the_user_s_is_not_overwritten(run_main, toy_ladder, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    status, _, err = run_main(cli.main, "report", toy_ladder, "--out", tmp_path / "mine.html")
    assert status == 2
    assert "already exists" in err
    assert (tmp_path / "mine.html").read_text() == "mine"


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_in_a_browser_on_a_desk_and_on_a_phone(ladder_page, width, dark):
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


def test_calibration_counts_every_answer_once():
    rng = np.random.default_rng(0)
    confidence = np.array([*rng.uniform(0.1, 1, 997), 0.0, 1.0, 0.1])
    correct = rng.random(1000) < confidence
    bins = calibration(confidence, correct)
    assert sum(found.size for found in bins) == 1000
    assert sum(found.size * found.accuracy for found in bins) == pytest.approx(correct.sum())
    assert all(abs(found.accuracy - found.confidence) < 0.15 for found in bins if found.size > 50)
    assert expected_calibration_error(bins) < 0.05


def test_the_calibration_error_is_the_mean_gap():
    bins = [Bin(10, 0.9, 0.8), Bin(30, 0.5, 0.7)]
    assert expected_calibration_error(bins) == pytest.approx((10 * 0.1 + 30 * 0.2) / 40)


def test_figures_of_nets_at_the_edges():
    """All right, all wrong, a class that never comes, one unit, weights of zero."""
    assert confusion_figure(np.diag(np.arange(10)))
    assert confusion_figure(np.zeros((10, 10), int))
    assert calibration_figure([Bin(1, 1.0, 1.0)])
    assert calibration_figure([Bin(5, 0.2, 0.0), Bin(1, 1.0, 1.0)])
    assert first_layer_figure(np.zeros((784, 1)))
    assert weights_figure(None, {"fc1": np.zeros((784, 1))})
