import functools
import json
import statistics
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from helpers import script
from jax.extend.core import jaxprs_in_params
from PIL import Image

from mnist_jax import LESSONS, Examples, data, init_state, train_step
from mnist_jax.runs.devices import Trainer
from mnist_jax.runs.records import Run

PEERS = ["jax_step_loop", "torch_in_memory", "torch_dataloader"]  # torch.compile takes too long for a test


@pytest.fixture(scope="module")
def study():
    return script("speed")


@pytest.fixture
def one_thread():
    """PyTorch's threads wait for each other for long where tests beside this one keep the cores busy."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_study(run_main, study, folder, out, *arguments):
    fast = ["--lessons", "mlp", "--repeats", 1, "--start-repeats", 0, "--no-scaling", "--peers"]
    return run_main(study.main, *fast, *arguments, "--data", folder, "--out", out)


def products(program):
    """For each matrix product in a jaxpr, inner ones too, the sizes of its three matrices."""
    found = Counter()
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            variables = [*equation.invars, *equation.outvars]
            found[tuple(sorted(size for variable in variables for size in variable.aval.shape))] += 1
        for inner in jaxprs_in_params(equation.params):
            found += products(inner)
    return found


@pytest.mark.parametrize("lesson_id", ["mlp", "adam"])
def test_the_floor_makes_the_products_of_a_step(study, lesson_id):
    lesson = LESSONS[lesson_id]
    batch = Examples(jnp.zeros((32, 28, 28), jnp.uint8), jnp.zeros(32, jnp.uint8))
    step = jax.make_jaxpr(train_step)(init_state(lesson, jax.random.key(0)), batch)
    weights = [jnp.zeros(shape) for shape in ((784, 512), (512, 256), (256, 10))]
    floor = jax.make_jaxpr(functools.partial(study.floor_epoch, steps=7))(weights, jnp.zeros((32, 784)))
    assert products(floor.jaxpr) == products(step.jaxpr)
    (scan,) = (equation for equation in floor.jaxpr.eqns if equation.primitive.name == "scan")
    assert products(scan.params["jaxpr"].jaxpr).total() == 8
    assert scan.params["length"] == 7


def test_the_floor_makes_as_many_steps_as_an_epoch(study, monkeypatch):
    made = []

    def floor_epoch(weights, inputs, steps):
        made.append(steps)
        return weights

    monkeypatch.setattr(study, "floor_epoch", floor_epoch)
    assert next(study.floor(LESSONS["mlp"], 70, None)) > 0
    assert made == [3]


def test_ratios_are_paired(study):
    """Both are slower in the second repeat: the ratio of medians would be another."""
    ratios = study.paired_ratios({"mlp": [2.0, 40.0, 6.0]}, {"mlp": [1.0, 10.0, 2.0]})
    assert ratios == {"mlp": 3.0}
    assert study.medians({"mlp": [2.0, 40.0, 6.0]}) == {"mlp": 6.0}


@pytest.mark.parametrize(
    ("share", "count", "scale"), [(1.0, 70, 1.0), (0.5, 64, 70 / 64), (0.01, 32, 70 / 32), (0.95, 70, 1.0)]
)
def test_a_part_of_an_epoch(study, share, count, scale):
    assert study.part_of_epoch(70, 32, share) == (count, scale)
    assert list(study.scaled(iter([2.0]), scale)) == [2 * scale]


def test_bytes_of_a_step(study):
    """Weights read twice and written, gradients written and read; momentum is a number a weight, Adam's state two."""
    mlp = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert study.bytes_per_step(LESSONS["mlp"]) == 4 * mlp * (5 + 2)
    assert study.bytes_per_step(LESSONS["adam"]) == 4 * (mlp + 2 * (512 + 256)) * (5 + 4)


def test_scaled_lessons(study):
    scaled = study.at(LESSONS["mlp"], study.Point(60_000, 128, 0.5))
    assert (scaled.hidden, scaled.batch_size) == ((256, 128), 128)
    assert study.at(LESSONS["adam"], study.BASE) == LESSONS["adam"]


def test_the_first_epoch_s_line_is_waited_for(study, tmp_path):
    code = "import os, time; time.sleep(0.2); print('epoch  1', flush=True); time.sleep(0.5)"
    seconds, peak = study.first_epoch([sys.executable, "-c", code], tmp_path)
    assert 0.2 < seconds < 0.7
    assert peak > 2**20
    for wrong in ("print('epoch  1'); raise SystemExit('no room')", "print('no room')"):
        with pytest.raises(study.UserError, match="no room"):
            study.first_epoch([sys.executable, "-c", wrong], tmp_path)


def test_the_first_epoch_of_a_lesson(study, toy_folder, tmp_path):
    arguments = study.Arguments(data=str(toy_folder))
    command = study.start_command("mlp", arguments, data.load(str(toy_folder), "notebooks"), tmp_path / "out")
    seconds, _ = study.first_epoch(command, tmp_path / "cache")
    assert seconds > 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["config"]["epochs"] == 1
    assert any((tmp_path / "cache").rglob("*"))


def test_compilation_is_not_served_from_a_cache(study, dataset):
    trainer = Trainer(LESSONS["mlp"], dataset, [Run(0)])
    states = trainer.start([Run(0)])
    trainer.compile(states)  # the tests keep compiled programs, so from here on a cache has it
    events = []

    def listen(name, *_, **__):
        events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.monitoring.register_event_listener(listen)
    try:
        for cached in (False, False, True):
            events.clear()
            if cached:  # as it was before
                jax.clear_caches()
                trainer.compile(states)
            else:
                study.compile_seconds(trainer, states)
            assert "/jax/core/compile/backend_compile_duration" in events
            assert ("/jax/compilation_cache/cache_hits" in events) == cached
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        jax.monitoring.unregister_event_listener(listen)


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_pytorch_s_nets_are_ours(study, toy, lesson_id):
    pytest.importorskip("torch")
    net = study.PyTorch(toy).net(LESSONS[lesson_id])
    assert sum(p.numel() for p in net.parameters()) == study.weights_and_kept(LESSONS[lesson_id])[0]
    kinds = Counter(type(layer).__name__ for layer in net)
    assert kinds["Dropout"] == (0 if lesson_id == "mlp" else 2)
    assert kinds["Sigmoid" if lesson_id in ("mlp", "dropout") else "ReLU"] == 2


@pytest.mark.usefixtures("one_thread")
def test_pytorch_sees_each_example_once_as_we_do(study, toy, monkeypatch):
    torch = study.PyTorch(toy)
    seen = []

    def epochs(self, lesson, batches, compiled=False):
        seen.extend(batches())
        return iter([1.0])

    monkeypatch.setattr(study.PyTorch, "_epochs", epochs)
    for way in (torch.in_memory, torch.dataloader):
        seen.clear()
        way(LESSONS["mlp"], 72)
        assert [len(labels) for _, labels in seen] == [32, 32, 8]
        assert Counter(int(label) for _, labels in seen for label in labels) == Counter(toy.labels.tolist())
        images = {bytes((image * 255).round().byte().flatten().tolist()) for images, _ in seen for image in images}
        assert images == {image.tobytes() for image in toy.images}
        seen.clear()
        way(LESSONS["mlp"], 96)  # more than there are, as of the sample
        assert [len(labels) for _, labels in seen] == [32, 32, 32]


@pytest.mark.usefixtures("one_thread")
def test_from_end_to_end_on_tiny_data(run_main, study, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "BASE", study.Point(64, 32, 0.125))
    monkeypatch.setattr(study, "SCALES", {"examples": (32, 64), "batch_size": (32,), "width": (0.125,)})
    monkeypatch.setattr(study, "COPIED", 2**20)
    out_folder = tmp_path / "out"
    more = [*PEERS, "--peer-share", 0.5, "--replicas", 2, "--replica-epochs", 2, "--scaling"]
    status, out, err = run_study(run_main, study, toy_folder, out_folder, *more)
    assert (status, err) == (0, "")
    assert "Not measured on a GPU" in out
    assert sorted(path.name for path in out_folder.iterdir()) == ["README.md", "speed.json", "speed.png"]
    assert "| mlp |" in (out_folder / "README.md").read_text()
    with Image.open(out_folder / "speed.png") as figure:
        assert min(figure.size) > 400

    speed = json.loads((out_folder / "speed.json").read_text())
    seconds = speed["seconds"]
    assert list(seconds) == ["floor", "tuned_floor", "ours", *PEERS]
    assert speed["device"].endswith("CPU cores")
    assert speed["repeats"] == speed["config"]["repeats"] == 1
    assert speed["environment"]["torch_threads"] == 1
    assert speed["floor_seconds"] == statistics.median(seconds["floor"]["mlp"])
    assert speed["epoch_seconds"] == {"mlp": seconds["ours"]["mlp"][0]}
    assert speed["peer_epoch_seconds"] == {peer: {"mlp": seconds[peer]["mlp"][0]} for peer in PEERS}
    assert speed["ratio_to_floor"]["mlp"] == pytest.approx(seconds["ours"]["mlp"][0] / speed["floor_seconds"])
    assert speed["ratio_to_tuned_floor"]["mlp"] == pytest.approx(
        seconds["ours"]["mlp"][0] / speed["tuned_floor_seconds"]
    )
    for peer in PEERS:
        ratio = seconds[peer]["mlp"][0] / seconds["ours"]["mlp"][0]
        assert speed["ratio_to_ours"][peer] == {"mlp": pytest.approx(ratio)}
    assert speed["compile_seconds"]["mlp"] > 0
    assert speed["first_epoch_seconds"] == speed["peak_memory_bytes"] == {}
    assert speed["scaling"]["examples"]["work"] == [32, 64]
    assert [len(repeats) for repeats in speed["scaling"]["examples"]["seconds"]["mlp"]] == [1, 1]
    (replicas,) = speed["replicas"]
    assert (replicas["replicas"], len(replicas["epoch_seconds"])) == (2, 2)
    moved = 2 * 2 * 3 * replicas["bytes_per_step"] / replicas["devices"]
    assert replicas["gigabytes_per_second"] == pytest.approx(moved / replicas["seconds"] / 1e9)

    status, _, err = run_study(run_main, study, toy_folder, out_folder)
    assert (status, err.count("\n")) == (2, 1)
    assert "already holds a run" in err


def test_without_pytorch_it_is_left_out(run_main, study, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, _ = run_study(run_main, study, toy_folder, tmp_path / "out", "torch_in_memory", "torch_compile")
    assert status == 0
    assert "PyTorch is not installed, so torch_in_memory, torch_compile are left out." in out
    speed = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert speed["peer_epoch_seconds"] == speed["ratio_to_ours"] == speed["scaling"] == {}
    assert speed["replicas"] == []


@pytest.mark.usefixtures("one_thread")
def test_where_torch_compile_fails_it_is_left_out(study, toy, monkeypatch):
    import torch

    def fails(function):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(study.CompileError, match=r"^no compiler$"):
        study.PyTorch(toy).compiled(LESSONS["mlp"], 64)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lessons", "cnn"], "'cnn'"),
        (["--lessons"], "lesson"),
        (["--peers", "numpy"], "'numpy'"),
        (["--peer-share", "0"], "share"),
        (["--peer-share", "nan"], "share"),
        (["--repeats", "0"], "--repeats"),
        (["--replicas", "8", "0"], "--replicas"),
        (["--replica-epochs", "0"], "--replica-epochs"),
        (["--start-repeats", "-1"], "--start-repeats"),
    ],
)
def test_bad_input_gets_status_2_and_leaves_nothing(run_main, study, toy_folder, tmp_path, arguments, says):
    status, _, err = run_main(study.main, "--data", toy_folder, "--out", tmp_path / "out", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert says in err
    assert not (tmp_path / "out").exists()
