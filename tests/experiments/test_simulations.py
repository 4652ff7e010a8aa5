import json

import numpy as np
import pytest
from helpers import ROOT, script
from simulated import checks, worlds
from simulated.checks import SIMULATIONS, Simulation

RECORDED = ROOT / "experiments" / "results" / "simulations"
QUICK = {"false claims, components", "false claims, components with an image part", "equivalence at the margin",
         "coverage of a share", "coverage, searches"}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in SIMULATIONS]
)
def test_promises_are_kept(name):
    simulation = SIMULATIONS[name]
    found = simulation.run(simulation.size)
    assert found["kept"], found


def test_limits_are_quantiles():
    limits = {
        simulation.what: (simulation.limit(simulation.size), simulation.at_most) for simulation in SIMULATIONS.values()
    }
    assert len(limits) == len(SIMULATIONS)
    assert Simulation("", int, 2_000, 0.05, at_most=True).limit(2_000) == 131
    assert Simulation("", int, 150, 0.05, at_most=True).limit(150) == 17
    assert Simulation("", int, 400, 0.95).limit(400) == 365
    assert Simulation("", int, 500, 0.95).limit(500) == 459


@pytest.mark.parametrize(("seen", "at_most", "kept"), [(131, True, True), (132, True, False), (1_869, False, True)])
def test_a_limit_itself_is_kept(seen, at_most, kept):
    simulation = Simulation("", lambda size: seen, 2_000, 0.05 if at_most else 0.95, at_most)
    assert simulation.limit(2_000) == (131 if at_most else 1_869)
    assert simulation.run(2_000)["kept"] == kept


def test_images_are_right_as_often_as_stated():
    rng = np.random.default_rng(0)
    right = np.stack([worlds.finals_by_image(rng, 3, 5, unlike=0.5, spread=0.1, lead=0.0015) for _ in range(40)])
    assert right.shape == (40, 3, 5, 10_000)
    first, second, third = right.mean((0, 2, 3))
    error = right.mean((2, 3)).std() / 40**0.5
    assert abs(second - 0.982) < 4 * error
    paired = right[:, 0].mean((1, 2)) - right[:, 1].mean((1, 2))
    assert abs(first - second - 0.0015) < 4 * paired.std() / 40**0.5
    assert abs(second - third) < 4 * paired.std() / 40**0.5


def test_from_end_to_end(run_main, tmp_path, monkeypatch):
    few = {
        name: Simulation(each.what, lambda size: size, 10, each.share, each.at_most)
        for name, each in SIMULATIONS.items()
    }
    program = script("simulations")
    monkeypatch.setattr(program, "SIMULATIONS", few)
    status, out, _ = run_main(program.main, "--times", 2, "--out", tmp_path / "out")
    assert status == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(found["size"] == found["seen"] == 20 for found in results["simulations"].values())
    text = (tmp_path / "out" / "README.md").read_text()
    assert text == program.report(results)["README.md"].decode()
    assert "any false claim among 8 equal optimizers" in text
    assert f"{len(SIMULATIONS) - 4} of {len(SIMULATIONS)} promises are kept" in text
    assert "wrote" in out


def test_interruption_leaves_no_run(run_main, tmp_path, monkeypatch):
    def fail(size):
        raise RuntimeError

    program = script("simulations")
    monkeypatch.setattr(program, "SIMULATIONS", {"a": Simulation("", fail, 1, 0.5)})
    with pytest.raises(RuntimeError):
        program.run(program.Arguments(out=tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("times", [0, 1_001])
def test_too_few_or_too_many_studies_are_refused(run_main, times):
    status, _, err = run_main(script("simulations").main, "--times", times)
    assert status == 2
    assert f"--times takes 1 to 1,000, not {times:,}." in err


def test_recorded_simulations_keep_every_promise():
    recorded = json.loads((RECORDED / "results.json").read_text())
    assert list(recorded["simulations"]) == list(SIMULATIONS)
    for name, found in recorded["simulations"].items():
        assert (found["what"], found["limit"]) == (SIMULATIONS[name].what, SIMULATIONS[name].limit(found["size"]))
        assert found["size"] == 10 * SIMULATIONS[name].size
        assert found["kept"]
    assert checks.CHANCE == 0.001


def test_the_answer_is_that_of_the_recorded_table():
    answer = " ".join(script("simulations").__doc__.split()).partition("Answer: yes. ")[2].partition(" Recorded in")[0]
    assert answer
    assert answer in (RECORDED / "README.md").read_text()
