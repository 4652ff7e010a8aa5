"""Every recorded table, verdict and number follows from the runs that are recorded."""

import inspect
import json
import re
import statistics

import numpy as np
import pytest
from helpers import ROOT, script

from mnist_jax import lessons
from mnist_jax.lessons import lesson_of_json
from mnist_jax.runs.records import RunRecord
from mnist_jax.studies.stats import ladder_gains, paired_difference
from mnist_jax.studies.tuning import Contestant, best_of, final_summary, tuning_summary

RECORDED = ROOT / "experiments" / "results"
STUDIES = sorted(path.name for path in RECORDED.iterdir())
COMPARISONS = ["optimizers", "sgd_vs_adam"]


def recorded(study):
    return json.loads((RECORDED / study / ("speed.json" if study == "speed" else "results.json")).read_text())


@pytest.mark.parametrize("study", STUDIES)
def test_the_table_and_the_verdict_follow_from_the_results(study):
    assert script(study).report(recorded(study))["README.md"].decode() == (RECORDED / study / "README.md").read_text()


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_figure_exists(study):
    assert {path.name for path in (RECORDED / study).glob("*.png")} == {
        name for name in script(study).report(recorded(study)) if name.endswith(".png")
    }


@pytest.mark.parametrize("study", COMPARISONS)
def test_comparison_results_follow_from_its_runs(study):
    results, config = recorded(study), recorded(study)["config"]
    header, *runs = map(json.loads, (RECORDED / study / "runs.jsonl").read_text().splitlines())
    assert {**header["config"], "command": config["command"]} == config
    (lesson,) = config["lessons"].values()
    entrants = [
        Contestant(
            found["label"],
            lesson_of_json({**lesson, "optimizer": found["optimizer"]}).optimizer,
            tuple(found["learning_rates"]),
        )
        for found in config["contestants"]
    ]
    images = results["data"]

    def records(stage, label, rates):
        found = {
            (run["learning_rate"], run["seed"]): RunRecord.from_json(run)
            for run in runs
            if (run["stage"], run.get("optimizer")) == (stage, label)
        }
        return [found[rate, seed] for rate in rates for seed in config[f"{stage}_seeds"]]

    tuning = {
        entrant.label: tuning_summary(
            records("tuning", entrant.label, entrant.learning_rates), entrant, images["validation"]
        )
        for entrant in entrants
    }
    assert tuning == results["tuning"]
    groups = {name: [e for e in entrants if e.optimizer.name == name] for name in ("sgd", "adam")}
    if study == "optimizers":
        groups = {entrant.label: [entrant] for entrant in entrants}
    (timing,) = (run["seconds"] for run in runs if run["stage"] == "timing")
    for name, group in groups.items():
        label, found = best_of(group, tuning).label, results["final"][name]
        rate = tuning[label]["learning_rate"]
        trained = records("final", label, [rate])
        summary = final_summary(trained, images["test"], config["steps_per_epoch"], config["test_every"])
        seconds = statistics.median(timing[label])
        assert {"contestant": label, "learning_rate": rate, **summary, "seconds_per_epoch": seconds} == found
    if study == "sgd_vs_adam":
        derived = script(study).differences(results)
        assert derived == {name: results[name] for name in derived}


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
    words = " ".join(script(study).__doc__.replace("\\\n", "").split())
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


def test_the_speed_s_answer():
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
    assert re.findall(r"[\d.]+ to [\d.]+", " ".join(answer("speed").split())) == said
    compiled, eager = (columns[f"{name} / one run"] for name in ("torch.compile", "PyTorch, in memory"))
    assert all(float(a.rstrip("x")) > float(b.rstrip("x")) for a, b in zip(compiled, eager, strict=True))


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
def test_a_script_says_how_its_results_were_recorded(study):
    assert answer(study).endswith(f"Recorded in experiments/results/{study} by {recorded(study)['config']['command']}")
