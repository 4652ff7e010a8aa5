"""The commands `export` and `import`, and the folders that they write."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import ROOT, room_for
from helpers.exchange import assert_same_net, failing, net_of
from safetensors import safe_open
from safetensors.numpy import save

from mnist_jax import LESSONS, UserError, logits
from mnist_jax.cli import commands as cli
from mnist_jax.nets.exchange import exported, pytorch_tensors
from mnist_jax.nets.trained import read_nets
from mnist_jax.runs.files import RESULTS
from mnist_jax.runs.journal import CHECKPOINTS


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_to_pytorch_and_back(lesson_id, toy_ladder, toy, run_main, tmp_path, monkeypatch):
    """JAX -> safetensors -> PyTorch -> safetensors -> JAX: the same weights, and the same logits in all three."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    monkeypatch.syspath_prepend(str(ROOT / "tests" / "parity"))
    from parity_torch import Net

    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    options = ["--lesson", lesson_id, "--seed", 1]
    assert run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", there, *options)[0] == 0
    net = Net(lesson_id, torch.float32)
    net.load_state_dict(load_file(there))  # strict: no name too many or too few
    save_file(net.state_dict(), back)
    digits = toy_ladder.parent / "toy"
    status, out, err = run_main(
        cli.main, "import", back, "--lesson", lesson_id, "--data", digits, "--out", tmp_path / "run"
    )
    assert (status, err) == (0, "")
    assert "test accuracy" in out
    (ours,), (theirs,) = read_nets(toy_ladder, lesson_id=lesson_id, seed=1), read_nets(tmp_path / "run")
    assert_same_net(ours.state, theirs.state)
    outputs = logits(ours.state, toy.images)
    np.testing.assert_array_equal(outputs, logits(theirs.state, toy.images))
    net.eval()
    with torch.no_grad():  # the notebooks' net ends with log-softmax, which takes a constant from each row
        log_probabilities = net(torch.from_numpy(toy.images).float() / 255, []).numpy()
    np.testing.assert_allclose(jax.nn.log_softmax(outputs), log_probabilities, atol=1e-5, rtol=1e-5)


LOADED = """
import sys
sys.modules["mnist_jax"] = None
import numpy as np
from jax import export
with open(sys.argv[1], "rb") as file:
    program = export.deserialize(bytearray(file.read()))
images = np.load(sys.argv[2])
assert program.call(images[:1]).shape == (1, 10)
np.save(sys.argv[3], program.call(images))
"""


@pytest.mark.parametrize("lesson_id", ["mlp", "adam"])
def test_stablehlo_runs_without_this_package(lesson_id, toy_ladder, toy, run_main, tmp_path):
    file = tmp_path / "net.stablehlo"
    arguments = ["export", toy_ladder, "--format", "stablehlo", "--lesson", lesson_id, "--out", file]
    assert run_main(cli.main, *arguments)[0] == 0
    np.save(tmp_path / "images.npy", toy.images)
    subprocess.run(
        [sys.executable, "-c", LOADED, file, tmp_path / "images.npy", tmp_path / "out.npy"], check=True, cwd=tmp_path
    )
    (net,) = read_nets(toy_ladder, lesson_id=lesson_id)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), logits(net.state, toy.images), atol=1e-5)
    assert file.stat().st_size < 2_500_000  # the net, and not its optimizer's state as well


def test_existing_files_are_kept(toy_ladder, run_main, tmp_path):
    (tmp_path / "mine").write_text("mine")
    status, _, err = run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", tmp_path / "mine")
    assert status == 2
    assert "already exists" in err
    assert (tmp_path / "mine").read_text() == "mine"
    status, _, err = run_main(cli.main, "export", toy_ladder, "--format", "onnx", "--out", tmp_path / "new")
    assert status == 2
    assert "stablehlo" in err
    with pytest.raises(UserError, match="safetensors, stablehlo"):
        exported(read_nets(toy_ladder)[0], "onnx")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_default_export_is_the_last_lesson_and_is_named(toy_ladder, run_main, tmp_path):
    status, out, _ = run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", tmp_path / "net")
    assert status == 0
    assert "lesson adam, seed 0, after epoch 2" in out
    with safe_open(tmp_path / "net", framework="numpy") as file:
        assert file.metadata()["mnist_jax.lesson_id"] == "adam"


def test_exported_weights_say_what_made_them(toy_ladder, run_main, tmp_path):
    results = json.loads((toy_ladder / RESULTS).read_text())
    run = shutil.copytree(toy_ladder, tmp_path / "run")
    environments = [results["environment"], {**results["environment"], "commit": "5" * 40}]
    (run / RESULTS).write_text(json.dumps({**results, "resumed_in": environments[1:]}))
    for folder, expected in ((toy_ladder, environments[:1]), (run, environments)):
        file = tmp_path / f"{folder.name}-{len(expected)}"
        assert run_main(cli.main, "export", folder, "--format", "safetensors", "--out", file)[0] == 0
        with safe_open(file, framework="numpy") as opened:
            assert json.loads(opened.metadata()["mnist_jax.environments"]) == expected


def test_an_imported_run_is_described_and_not_overwritten(toy_ladder, run_main, tmp_path, monkeypatch):
    (tmp_path / "net.safetensors").write_bytes(exported(net_of("adam"), "safetensors"))
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    arguments = ["import", tmp_path / "net.safetensors", "--lesson", "adam", "--data", digits, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.nets.exchange.Checkpoints.save", failing)
        assert run_main(cli.main, *arguments)[0] == 2
    assert not (out / RESULTS).exists()
    assert run_main(cli.main, *arguments)[0] == 0
    results = json.loads((out / RESULTS).read_text())
    assert results["config"]["imported"]["file"] == "net.safetensors"
    assert results["config"]["epochs"] == 0
    assert [path.name for path in (out / CHECKPOINTS).iterdir()] == ["adam"]
    status, _, err = run_main(cli.main, *arguments)
    assert status == 2
    assert "already holds a run" in err


def test_import_on_a_full_disk_is_refused(toy_ladder, run_main, tmp_path):
    (tmp_path / "net").write_bytes(exported(net_of("mlp"), "safetensors"))
    arguments = ["import", tmp_path / "net", "--lesson", "mlp", "--data", toy_ladder.parent / "toy"]
    out = tmp_path / "run"
    with room_for(4):
        status, _, err = run_main(cli.main, *arguments, "--out", out)
    assert status == 2
    says = f"{out} cannot be written ({os.strerror(errno.EFBIG)}); choose another folder with --out."
    assert err == f"error: {says}\n"
    assert not list(out.iterdir())


def test_second_import_after_a_failure_wins(toy_ladder, run_main, tmp_path, monkeypatch):
    """Nothing of the first is left in the folder."""
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    for number, lesson_id in enumerate(("adam", "adam")):
        net = net_of(lesson_id)
        net = dataclasses.replace(net, state=read_nets(toy_ladder, lesson_id="adam", seed=number)[0].state)
        (tmp_path / f"{number}").write_bytes(exported(net, "safetensors"))

    def arguments(number):
        return ["import", tmp_path / f"{number}", "--lesson", "adam", "--data", digits, "--out", out]

    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.nets.exchange.write_results", failing)
        assert run_main(cli.main, *arguments(0))[0] == 2
    assert run_main(cli.main, *arguments(1))[0] == 0
    assert_same_net(read_nets(out)[0].state, read_nets(toy_ladder, lesson_id="adam", seed=1)[0].state)


def test_existing_checkpoint_is_not_lost(toy_ladder, run_main, tmp_path):
    """A run whose results.json was removed."""
    (tmp_path / "net").write_bytes(exported(net_of("adam"), "safetensors"))
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    arguments = ["import", tmp_path / "net", "--lesson", "adam", "--data", digits, "--out", out]
    assert run_main(cli.main, *arguments)[0] == 0
    (out / RESULTS).unlink()
    before = sorted(out.rglob("*"))
    status, _, err = run_main(cli.main, *arguments)
    assert status == 2
    assert "already holds a run" in err
    assert sorted(out.rglob("*")) == before


def test_net_with_non_finite_outputs_is_refused(toy_ladder, run_main, tmp_path):
    tensors = {name: np.asarray(tensor) for name, tensor in pytorch_tensors(net_of("relu").state).items()}
    tensors = {name: tensor * np.float32(1e25) for name, tensor in tensors.items()}
    (tmp_path / "net").write_bytes(save(tensors))
    digits, out = toy_ladder.parent / "toy", tmp_path / "run"
    status, _, err = run_main(cli.main, "import", tmp_path / "net", "--lesson", "relu", "--data", digits, "--out", out)
    assert status == 2
    assert "not finite" in err
    assert not out.exists()


def test_a_path_with_a_tilde(toy_ladder, run_main, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ["--format", "safetensors", "--out", "~/net"]
    assert run_main(cli.main, "export", toy_ladder, *options)[0] == 0
    digits = toy_ladder.parent / "toy"
    arguments = ["import", "~/net", "--lesson", "adam", "--data", digits, "--out", tmp_path / "run"]
    assert run_main(cli.main, *arguments)[0] == 0


@pytest.mark.parametrize("place", ["file/net", "no folder/net", "n" * 300, "."])
def test_unwritable_place_is_reported(toy_ladder, run_main, tmp_path, place):
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    status, _, err = run_main(cli.main, "export", toy_ladder, "--format", "safetensors", "--out", tmp_path / place)
    assert status == 2
    assert "--out" in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
