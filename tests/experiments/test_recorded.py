"""Every recorded table, verdict and number follows from the runs that are recorded."""

import inspect
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, script
from PIL import Image

from mnist_jax import lessons
from mnist_jax.data.arrays import KNOWN
from mnist_jax.runs.devices import SIDE_BY_SIDE
from mnist_jax.runs.records import unpack_bits
from mnist_jax.studies.inference import MARGINS
from mnist_jax.studies.search import CONFIRMED, best_trials, chosen_trial
from mnist_jax.studies.spaces import SPACES
from mnist_jax.studies.stats import ladder_gains, paired_difference
from mnist_jax.views.comparison import report, verdict

RECORDED = ROOT / "experiments" / "results"
STUDIES = sorted(path.name for path in RECORDED.iterdir())
COMPARISONS = ["sgd_vs_adam", "optimizers", "sgd_vs_adam_on_fashion"]


def report_of(study):
    results = recorded(study)
    return report(results) if study in COMPARISONS else script_of(study).report(results)


def script_of(study):
    return script(Path(recorded(study)["config"]["command"].split()[1]).stem)


def recorded(study):
    (file,) = (RECORDED / study).glob("*.json")
    return json.loads(file.read_text())


@pytest.mark.parametrize("study", STUDIES)
def test_table_and_verdict_follow_from_results(study):
    assert report_of(study)["README.md"].decode() == (RECORDED / study / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("study", sorted({path.parent.name for path in RECORDED.glob("*/*.png")}))
def test_figures_are_what_the_program_draws_now(study):
    drawn = {name: content for name, content in report_of(study).items() if name.endswith(".png")}
    for name, content in drawn.items():
        file = RECORDED / study / name
        recorded_content = file.read_bytes()
        if made_with(recorded_content) != made_with(content):
            pytest.skip("drawn with another version of Matplotlib")
        assert recorded_content == content, name
    assert drawn


def made_with(png):
    return Image.open(io.BytesIO(png)).info["Software"]


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_figure_exists(study):
    assert {path.name for path in (RECORDED / study).glob("*.png")} == {
        name for name in report_of(study) if name.endswith(".png")
    }


@pytest.mark.parametrize("study", COMPARISONS)
def test_comparison_follows_its_rule_within_its_spaces(study):
    results = recorded(study)
    config, data = results["config"], results["data"]
    searched = [(net, label, entry) for net, entries in results["nets"].items() for label, entry in entries.items()]
    for net, label, entry in searched:
        space, trials = SPACES[label], entry["trials"]
        assert json.loads(json.dumps(space.to_json())) == config["spaces"][label]
        assert [trial["settings"] for trial in trials] == space.trials(data["name"], net, config["trials"])
        assert [trial["seed"] for trial in trials] == [trial["number"] for trial in trials] == [*range(len(trials))]
        assert all(trial["diverged"] or len(trial["validation_correct"]) == config["epochs"] for trial in trials)
        confirmed = [found["number"] for found in entry["confirmation"]]
        assert confirmed == best_trials(trials, CONFIRMED)
        assert entry["chosen"] == chosen_trial(entry["confirmation"])
        for runs in (entry["final"], entry.get("course", entry["final"])):
            assert runs["seeds"] == config["seeds"]["finals"]
            for ends, bits in zip(runs["test_correct"], runs["right"], strict=True):
                assert unpack_bits(bits, data["test"]).sum() == ends[-1]
    assert config["margin"] == 100 * MARGINS[data["name"]]
    assert results["verdict"] == verdict(results)


def test_recorded_comparisons_have_the_planned_size():
    sgd_vs_adam, optimizers, fashion = map(recorded, COMPARISONS)
    for study in (sgd_vs_adam, optimizers, fashion):
        assert study["config"]["trials"] >= 32
        assert study["config"]["epochs"] >= 5
        assert len(study["config"]["seeds"]["finals"]) >= 10
        assert study["data"]["name"] == KNOWN[study["data"]["sha256"]]
    assert list(sgd_vs_adam["nets"]) == list(lessons.LESSONS)
    assert len(optimizers["nets"]["he"]) >= 12
    assert (fashion["data"]["name"], list(fashion["nets"])) == ("Fashion-MNIST", ["he"])


def test_readme_statement_on_dropout():
    """It holds the net back most in the second epoch, and less in each that follows."""
    gains = [sum(epoch) / len(epoch) for epoch in ladder_gains(recorded("ladder"))["mlp", "dropout"]]
    assert gains.index(min(gains)) == 1
    assert gains[1:] == sorted(gains[1:])
    ends = [
        sum(run[-1] for run in recorded("ladder")["lessons"]["mlp"][loss]) / 5 for loss in ("train_loss", "test_loss")
    ]
    assert [f"{end:.2f}" for end in ends] == ["0.35", "0.34"]


def answer(study):
    """What a script's docstring says of the answer, in one line."""
    words = " ".join(script_of(study).__doc__.replace("\\\n", "").split())
    return words[words.index("Answer") :]


def test_each_lesson_says_the_accuracy_it_reaches():
    entries, size = recorded("ladder")["lessons"], recorded("ladder")["data"]["test"]
    means = {name: np.mean([run[-1] for run in entry["test_correct"]]) / size for name, entry in entries.items()}
    source = inspect.getsource(lessons)
    assert re.findall(r"# (\S+ %)$", source, re.MULTILINE) == [f"{100 * mean:.2f} %" for mean in means.values()]
    (command,) = re.findall("# `(python experiments/ladder.py .*)`", source)
    assert recorded("ladder")["config"]["command"].startswith(f"{command} --out")
    gains = {after: np.mean(epochs[-1]) for (_, after), epochs in ladder_gains(recorded("ladder")).items()}
    said = (
        f"{name} {100 * mean:.2f} %{f' ({gains[name]:+.2f})' if gains.get(name) else ''}"
        for name, mean in means.items()
    )
    assert ", ".join(said) in answer("ladder")


def test_running_variance_answer():
    differences = [
        paired_difference(*([run["correct"] for run in entry[kept]] for kept in ("pytorch", "flax")), grid=1)
        for entry in recorded("running_variance")["lessons"].values()
    ]
    assert f"at most {max(abs(found.mean) for found in differences) / 100:.3f} points" in answer("running_variance")
    assert not any(found.excludes_zero for found in differences)


def test_speed_answer():
    table, *_ = (RECORDED / "speed" / "README.md").read_text().split("\n\n")
    header, _, *rows = (line.strip("| ").split(" | ") for line in table.splitlines())
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    order = ["one run (s)", "of the product rate", "a run per core (s/run)", "split over the cores / one run"]
    order += [f"{name} / one run" for name in ("JAX, a call per step", "PyTorch, in memory", "PyTorch, DataLoader")]
    order += ["PyTorch, a process per core / a run per core"]
    said = []
    for name in order:
        low, *_, high = sorted((cell.rstrip("%x") for cell in columns[name]), key=float)
        said.append(f"{low} to {high}")
    assert re.findall(r"[\d.]+ to [\d.]+", answer("speed").partition("On one")[0]) == said
    compiled, eager = (columns[f"{name} / one run"] for name in ("torch.compile", "PyTorch, in memory"))
    assert all(float(a.rstrip("x")) > float(b.rstrip("x")) for a, b in zip(compiled, eager, strict=True))


def test_speed_answer_on_a_gpu():
    results = recorded("speed_gpu")
    ratios = [ratios["adam"] for ratios in results["ratio_to_ours"].values()]
    rates = {entry["replicas"]: entry["nets_per_second"] for entry in results["replicas"]}
    reached = results["study"]["seconds_to"]["adam"]
    said = [f"{results['device']}", f"{results['epoch_seconds']['adam']:.3f} seconds"]
    said += [f"{ratio:.1f} times" for ratio in ratios]
    said += [f"{max(rates)} nets side by side train {rates[max(rates)] / rates[1]:.0f} times as many"]
    said += [f"{reached['97']:.2f} seconds", f"{reached['98']:.2f} seconds", results["config"]["command"]]
    found = answer("speed_gpu").partition("On one")[2]
    assert [words for words in said if words not in found] == []
    default = SIDE_BY_SIDE["gpu"]
    assert rates[default] > 0.9 * max(rates.values())


@pytest.mark.parametrize(
    "study", ["all_of_optax", "initialisation", "optimizers", "reproduce_notebooks", "sgd_vs_adam"]
)
def test_numbers_in_a_script_docstring_match_its_verdict(study):
    verdict = " ".join((RECORDED / study / "README.md").read_text().split()).lower()
    said = [
        sentence
        for sentence in answer(study).split(" Recorded in ")[0].rstrip(".").split(". ")
        if re.search(r"\d", sentence)
    ]
    assert said
    assert [sentence for sentence in said if sentence.lower() not in verdict] == []


def test_nearly_all_of_optax_works():
    study, results = script("all_of_optax"), recorded("all_of_optax")
    outcomes = {
        kind: [study.outcome(results, entry) for entry in study.of_kind(results, kind)] for kind in study.HEADERS
    }
    assert outcomes["optimizer"].count("yes") >= 45
    assert outcomes["schedule"].count("yes") >= 12


@pytest.mark.parametrize("study", STUDIES)
def test_script_docstring_names_the_recording_command(study):
    assert f"experiments/results/{study} by {recorded(study)['config']['command']}" in answer(study)
