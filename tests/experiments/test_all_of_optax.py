import inspect
import json
import math

import optax
import pytest
from helpers import script
from helpers.lessons import NARROW

from mnist_jax import OPTIMIZERS, optimizer, schedule
from mnist_jax.optimizers import schedule_names
from mnist_jax.runs.loop import train_runs

NAMES = {
    "optimizer": ["sgd", "contrib.momo", "contrib.dpsgd"],
    "schedule": ["constant", "warmup_cosine_decay", "join_schedules"],
}


@pytest.fixture
def study(monkeypatch):
    found = script("all_of_optax")
    monkeypatch.setattr(found, "LESSONS", NARROW)
    return found


def test_everything_that_optax_has_is_tried(study):
    found = study.names()
    assert sorted(found["optimizer"]) == sorted([*OPTIMIZERS, "contrib.dpsgd"])
    made = {
        name.removesuffix("_schedule")
        for name, function in vars(optax.schedules).items()
        if inspect.isfunction(function) and inspect.signature(function).return_annotation == optax.Schedule
    }
    assert sorted(found["schedule"]) == sorted(made)


def test_schedules_have_the_numbers_they_need(study):
    assert study.NUMBERS.keys() <= set(schedule_names())
    for name, numbers in study.NUMBERS.items():
        assert schedule(name, **numbers).name == name


def test_from_end_to_end_on_tiny_data(study, run_main, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "names", lambda: NAMES)
    line = ["--data", toy_folder, "--out", tmp_path / "out"]
    status, out, err = run_main(study.main, *line, "--tensorboard")
    assert (status, err) == (0, "")
    assert "(0 s left)" in out
    table = (tmp_path / "out" / "README.md").read_text()
    sgd, momo, dpsgd, constant, warm, join = json.loads((tmp_path / "out" / "results.json").read_text())["found"]
    assert [rate for rate, _ in sgd["tried"]] == list(study.RATES)
    losses = [math.inf if loss is None else loss for _, loss in sgd["tried"]]
    assert sgd["learning_rate"] == study.RATES[losses.index(min(losses))]
    assert momo["tried"] == []
    assert "| contrib.momo | 1* | " in table
    assert "| contrib.dpsgd |  | no: contrib.dpsgd needs the gradient of each single example" in table
    assert "| join_schedules | no: The schedule join_schedules cannot be given" in table
    assert "| warmup_cosine_decay, warmup_fraction 0.05 | " in table
    assert f"{5 * constant['test_correct'][0]:.2f} % |" in table  # of 20 images
    assert constant["learning_rates"] == [pytest.approx(study.SCHEDULED[1])]
    assert warm["learning_rates"][0] < 0.9 * study.SCHEDULED[1]
    assert "refused" in dpsgd
    assert "refused" in join

    monkeypatch.setattr(study, "train_runs", None)  # all is known
    before = (tmp_path / "out" / "results.json").read_bytes()
    (tmp_path / "out" / "results.json").unlink()
    assert run_main(study.main, *line, "--resume")[0] == 0
    assert json.loads((tmp_path / "out" / "results.json").read_bytes())["found"] == json.loads(before)["found"]


def test_rate_with_non_finite_loss_is_not_chosen(study, monkeypatch):
    monkeypatch.setattr(study, "first_losses", lambda *_: {1.0: math.inf, 0.1: 0.7, 0.01: 0.3, 0.001: 0.9})
    monkeypatch.setattr(study, "trained", lambda chosen, _: {"rate": chosen.learning_rate})
    found = study.with_optimizer("sgd", None)
    assert found == {
        "learning_rate": 0.01,
        "tried": [[1.0, None], [0.1, 0.7], [0.01, 0.3], [0.001, 0.9]],
        "rate": 0.01,
    }


def test_rates_are_tried_on_the_first_examples(study, monkeypatch, dataset):
    lengths = []

    def train(lesson, data, runs, epochs):
        lengths.append(data.epoch_length)
        return train_runs(lesson, data, runs, epochs=epochs)

    monkeypatch.setattr(study, "TRIED_ON", 8)
    monkeypatch.setattr(study, "train_runs", train)
    assert study.first_losses(optimizer("sgd", 1.0), dataset).keys() == set(study.RATES)
    assert lengths == [8]


def test_failures_are_named(study):
    def entry(name, correct, **more):
        return {"kind": "optimizer", "name": name, "test_correct": [correct], "diverged": False, "tried": [], **more}

    refused = {"kind": "optimizer", "name": "no", "refused": "It cannot; choose another."}
    found = [entry("low", 300), entry("high", 900), entry("idle", 200), entry("lost", 100, diverged=True), refused]
    results = {"found": found, "data": {"test": 1000}}
    outcomes = [study.outcome(results, each) for each in found]
    assert outcomes == ["yes", "yes", "at chance", "diverged", "no: It cannot"]
    assert study.verdict(results) == [
        "2 of 5 optimizers work, to test accuracies from 30.00 % (low) to 90.00 % (high).",
        "Not: idle, lost, no.",
        "0 of 0 schedules work.",
    ]
