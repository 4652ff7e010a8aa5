import json

import pytest
from test_ladder import script

from mnist_jax import OPTIMIZERS


def test_every_optimizer_stands_once_and_sgd_with_momentum_too():
    made = script("optimizers").contestants((0.01, 0.1))
    assert [entrant.label for entrant in made] == [*OPTIMIZERS, "sgd, momentum 0.9"]
    assert {entrant.learning_rates for entrant in made} == {(0.01, 0.1)}


def test_quick_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path, monkeypatch):
    study = script("optimizers")
    monkeypatch.setattr(study, "OPTIMIZERS", ["adam"])
    out_folder = tmp_path / "out"
    status, out, _ = run_main(study.main, "--quick", "--lesson", "mlp", "--data", toy_folder, "--out", out_folder)
    assert status == 0
    assert "optimizers.png" in out
    assert out.count("QUICK") == 2
    assert "QUICK" in (out_folder / "table.md").read_text()
    assert set(json.loads((out_folder / "results.json").read_text())["final"]) == {"adam", "sgd, momentum 0.9"}


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ([0.90, 0.91, 0.92], "Shown to be better than b by 7.10 points"),
        ([0.97, 0.985, 0.981], "Not shown to be better than b by"),
        ([0.5, 0.99, 0.99], "Not shown to be better than b by"),
    ],
)
def test_the_verdict_names_what_is_shown_to_be_worse_than_the_best(others, says):
    final = {"a": {"test_accuracy": [[0.98], [0.981], [0.982]]}, "b": {"test_accuracy": [[value] for value in others]}}
    best, rest, _ = script("optimizers").verdict(final)
    assert best.endswith(" a.")
    assert rest.startswith(says)
