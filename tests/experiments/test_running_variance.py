import json

import jax
import numpy as np
from helpers import script

from mnist_jax import LESSONS, init_state, train_epoch


def test_only_the_variance_grows_and_by_one_in_31(toy):
    state, _ = train_epoch(init_state(LESSONS["he"], jax.random.key(0)), toy)
    other = script("running_variance").with_pytorch_variance(state)
    for name, layer in state.batch_stats.items():
        np.testing.assert_allclose(other.batch_stats[name]["var"], layer["var"] * 32 / 31, rtol=1e-6)
        np.testing.assert_array_equal(other.batch_stats[name]["mean"], layer["mean"])


def test_from_end_to_end_on_tiny_data(run_main, toy_folder, tmp_path):
    status, out, _ = run_main(
        script("running_variance").main, "--data", toy_folder, "--seeds", 2, "--epochs", 1, "--out", tmp_path / "out"
    )
    assert status == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["lessons"]) == ["batch_norm", "he", "adam"]
    assert all(len(entry[kept]) == 2 for entry in results["lessons"].values() for kept in ("flax", "pytorch"))
    for lesson_id in results["lessons"]:
        assert lesson_id in (tmp_path / "out" / "README.md").read_text()
    assert "wrote" in out


def test_one_seed_is_refused(run_main, toy_folder):
    status, _, err = run_main(script("running_variance").main, "--data", toy_folder, "--seeds", 1)
    assert status == 2
    assert "at least 2 seeds" in err
