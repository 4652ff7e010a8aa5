import itertools
import json

import numpy as np
import pytest
from helpers import script
from PIL import Image


@pytest.mark.slow
def test_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path, monkeypatch):
    study = script("initialisation")
    monkeypatch.setattr(study, "STEPS", (0, 1, 4))
    status, out, _ = run_main(study.main, "--quick", "--data", toy_folder, "--out", tmp_path / "out")
    assert status == 0
    assert "QUICK" in out
    assert "(0 s left)" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["nets"]) == 8
    for net, quantity in itertools.product(results["nets"].values(), study.WORDS):
        assert np.shape(net[quantity]["variance"]) == np.shape(net[quantity]["mean"]) == (1, 3, 3)
    with Image.open(tmp_path / "out" / "initialisation.png") as figure:
        assert min(figure.size) > 400
    assert "relu, batch norm, he" in (tmp_path / "out" / "README.md").read_text()
