"""The whole script, on tiny nets and data."""

import dataclasses
import json
import sys

import pytest
from helpers import script
from PIL import Image
from timing import gpu_study, limits, scaling

from mnist_jax import LESSONS
from mnist_jax.cli.arguments import DataArguments
from mnist_jax.runs.provenance import environment

# torch.compile takes too long for a test.
PEERS = ["ours_per_core", "ours_split", "jax_step_loop", "torch_in_memory", "torch_per_core", "torch_dataloader"]


@pytest.fixture(scope="module")
def study():
    return script("speed")


@pytest.fixture
def small_mlp(monkeypatch):
    monkeypatch.setitem(LESSONS, "mlp", dataclasses.replace(LESSONS["mlp"], hidden=(8, 4)))


@pytest.fixture
def one_thread():
    """PyTorch's threads wait for each other for long where tests beside this one keep the cores busy."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "small_mlp")
def test_from_end_to_end(run_main, study, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "EXAMPLES", 64)
    monkeypatch.setattr(scaling, "SCALES", {"examples": (32, 64), "batch_size": (32,), "width": (0.5,)})
    monkeypatch.setattr(limits, "COPIED", 2**20)
    monkeypatch.setattr(limits, "SIDE", 64)
    folder = tmp_path / "out"
    arguments = ["--lessons", "mlp", "--repeats", 1, "--start-repeats", 0, "--replicas", 2, "--replica-epochs", 2]
    arguments += ["--peers", *PEERS, "--peer-share", 0.5, "--data", toy_folder, "--out", folder]
    status, out, err = run_main(study.main, *arguments)
    assert (status, err) == (0, "")
    assert "Not measured on a GPU" in out
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "speed.json", "speed.png"]
    assert "| mlp |" in (folder / "README.md").read_text()
    with Image.open(folder / "speed.png") as figure:
        assert min(figure.size) > 400

    speed = json.loads((folder / "speed.json").read_text())
    seconds = speed["seconds"]
    assert list(seconds) == ["product", "ours", *PEERS]
    assert speed["device"].endswith("CPU cores")
    assert speed["repeats"] == speed["config"]["repeats"] == 1
    assert speed["environment"].items() >= environment().items()
    assert speed["environment"]["torch_threads"] == 1
    assert speed["limits"]["product_gigaflops_per_second"] == 2 * 64**3 / seconds["product"]["mlp"][0] / 1e9
    assert speed["epoch_seconds"] == {"mlp": seconds["ours"]["mlp"][0]}
    assert speed["peer_epoch_seconds"] == {peer: {"mlp": seconds[peer]["mlp"][0]} for peer in PEERS}
    for peer in PEERS:
        ratio = seconds[peer]["mlp"][0] / seconds["ours"]["mlp"][0]
        assert speed["ratio_to_ours"][peer] == {"mlp": pytest.approx(ratio)}
    ratio = seconds["torch_per_core"]["mlp"][0] / seconds["ours_per_core"]["mlp"][0]
    assert speed["ratio_per_core"] == {"mlp": pytest.approx(ratio)}
    header, _, row = (folder / "README.md").read_text().splitlines()[:3]
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    rates = speed["limits"]
    for way, taken in (("of the product rate", "ours"), ("a run per core, of the product rate", "ours_per_core")):
        share = rates["epoch_gigaflops"]["mlp"] / seconds[taken]["mlp"][0] / rates["product_gigaflops_per_second"]
        assert cells[way] == f"{share:.0%}"
    share = rates["epoch_gigabytes"]["mlp"] / seconds["ours"]["mlp"][0] / rates["copy_gigabytes_per_second"]
    assert cells["of the copy rate"] == f"{share:.0%}"
    assert f"{ratio:.2f}x" == cells["PyTorch, a process per core / a run per core"]
    assert speed["compile_seconds"]["mlp"] > 0
    assert speed["first_epoch_seconds"] == speed["peak_memory_bytes"] == {}
    assert speed["scaling"]["examples"]["work"] == [32, 64]
    assert [len(repeats) for repeats in speed["scaling"]["examples"]["seconds"]["mlp"]] == [1, 1]
    (replicas,) = speed["replicas"]
    assert (replicas["replicas"], len(replicas["epoch_seconds"])) == (2, 2)
    moved = 2 * 2 * 3 * replicas["bytes_per_step"] / replicas["devices"]
    assert replicas["gigabytes_per_second"] == pytest.approx(moved / replicas["seconds"] / 1e9)

    status, _, err = run_main(study.main, *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert "already holds a run" in err


@pytest.mark.usefixtures("small_mlp")
def test_pytorch_peers_are_left_out_without_pytorch(study, toy_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "timing.pytorch", raising=False)
    fast = {"lessons": ("mlp",), "repeats": 1, "start_repeats": 0, "scaling": False}
    digits = DataArguments(data=str(toy_folder))
    out = tmp_path / "out"
    monkeypatch.setattr("os.getloadavg", lambda: (1e4, 0, 0))
    study.run(study.Arguments(**fast, peers=("torch_in_memory", "torch_compile"), digits=digits, out=out))
    said = capsys.readouterr().out
    assert "PyTorch is not installed, so torch_in_memory, torch_compile are left out." in said
    assert "The machine was busy (load average 10000.0)" in said
    speed = json.loads((out / "speed.json").read_text())
    assert speed["config"]["data"] == str(toy_folder)
    assert "digits" not in speed["config"]
    assert speed["peer_epoch_seconds"] == speed["ratio_to_ours"] == speed["scaling"] == {}
    assert speed["replicas"] == []


@pytest.mark.slow
@pytest.mark.usefixtures("small_mlp")
def test_gpu_study_on_a_small_scale(run_main, study, toy_folder, tmp_path, monkeypatch):
    """Without PyTorch; what is shown is made of the file alone."""
    monkeypatch.setitem(sys.modules, "timing.pytorch", None)  # tyro would miss torch itself
    monkeypatch.setattr(limits, "COPIED", 2**20)
    monkeypatch.setattr(limits, "SIDE", 64)
    monkeypatch.setattr(gpu_study, "MOST_EPOCHS", 2)
    folder = tmp_path / "out"
    arguments = ["--gpu-study", "--lessons", "mlp", "--repeats", 1, "--start-repeats", 0, "--no-scaling"]
    arguments += ["--replicas", 1, 8, "--data", toy_folder, "--out", folder]
    status, out, err = run_main(study.main, *arguments)
    assert (status, err) == (0, "")
    speed = json.loads((folder / "speed.json").read_text())
    assert speed["device"].endswith("CPU cores")
    assert speed["peer_epoch_seconds"].keys() == {"ours_per_core", "ours_split", "jax_step_loop"}
    chosen = {"lessons": ["mlp"], "replicas": [1, 8], "peer_share": 0.1, "replica_epochs": 1, "gpu_study": True}
    assert {name: speed["config"][name] for name in chosen} == chosen
    assert len(speed["study"]["runs"]["mlp"]["test_correct"]) == 2
    assert speed["study"]["seconds_to"] == {"mlp": {"97": None, "98": None}}
    assert speed["study"]["side_by_side"]["mlp"] in (1, 2)  # 8 runs on four devices
    assert [entry["replicas"] for entry in speed["replicas"]] == [1, 8]
    alone, together = (entry["nets_per_second"] for entry in speed["replicas"])
    rows = [f"| mlp | not reached | not reached | {speed['study']['side_by_side']['mlp']} |"]
    rows += [f"| ours, {count} side by side | {rate:.3g} |" for count, rate in ((1, alone), (8, together))]
    rows += [f"| ours | {1 / (10 * speed['epoch_seconds']['mlp']):.3g} |"]
    written = (folder / "README.md").read_text()
    assert [row for row in rows if row not in written] == []
    assert study.report(speed) == {"README.md": written.encode()}
    assert "--side-by-side" in out


def test_given_options_are_measured(study):
    """Even an empty value, or one that is the default without the study."""
    given = {"repeats": 5, "peer_share": 0.2, "replicas": (), "replica_epochs": 10, "peers": None}
    assert study.completed(given, gpu_study.IN_FULL) == {**given, "peers": gpu_study.IN_FULL["peers"]}


def test_interruption_frees_the_folder(study, toy_folder, tmp_path, monkeypatch):
    def interrupted(*_):
        assert (tmp_path / "speed.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(study.Arguments(digits=DataArguments(data=str(toy_folder)), out=tmp_path))
    assert list(tmp_path.iterdir()) == [toy_folder]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lessons"], "lesson"),
        (["--peer-share", "0"], "share"),
        (["--peer-share", "nan"], "share"),
        (["--repeats", "0"], "--repeats"),
        (["--replicas", "8", "0"], "--replicas"),
        (["--replica-epochs", "0"], "--replica-epochs"),
        (["--start-repeats", "-1"], "--start-repeats"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(run_main, study, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(study.main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert says in err
    assert not (tmp_path / "out").exists()


def test_windows_is_refused(run_main, study, toy_folder, tmp_path, monkeypatch):
    monkeypatch.delattr("os.wait4")
    status, _, err = run_main(study.main, "--data", toy_folder, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert "run this on Linux or macOS" in err


@pytest.mark.parametrize(("flag", "choice"), [("--lessons", "cnn"), ("--peers", "numpy")])
def test_unknown_choice_gets_status_2_and_leaves_nothing(run_main, study, toy_folder, tmp_path, flag, choice):
    status, _, err = run_main(study.main, "--data", toy_folder, "--out", tmp_path / "out", flag, choice)
    assert status == 2
    assert f"'{choice}'" in err
    assert not (tmp_path / "out").exists()
