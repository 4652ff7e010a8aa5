"""Other ways to train: the step loop, and PyTorch where it is installed."""

import contextlib
import sys
from collections import Counter
from typing import get_args

import pytest
from timing import peers

from mnist_jax import LESSONS


@pytest.fixture
def pytorch():
    """PyTorch's peers, on one thread: threads wait for each other for long where other tests keep the cores busy."""
    torch = pytest.importorskip("torch")
    from timing import pytorch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield pytorch
    torch.set_num_threads(before)


def seen(batches, toy):
    """Sizes of batches; asserts that each image is one of ours with its label, and in one pass each comes once."""
    found = Counter(pair for batch in batches for pair in zip(*batch, strict=True))
    ours = Counter(zip(map(bytes, toy.images), toy.labels.tolist(), strict=True))
    assert found == ours if found.total() == toy.size else found.keys() <= ours.keys()
    return [len(labels) for _, labels in batches]


@pytest.mark.parametrize(("examples", "sizes"), [(72, [32, 32, 8]), (96, [32, 32, 32])])
def test_step_loop_trains_on_each_example_once_per_pass(toy, monkeypatch, examples, sizes):
    batches = []

    def train_step(state, batch):
        batches.append(([bytes(image) for image in batch.images], batch.labels.tolist()))
        return state, 0.0

    monkeypatch.setattr(peers, "train_step", train_step)
    next(peers.jax_step_loop(toy, LESSONS["mlp"], examples))
    assert seen(batches, toy) == sizes


@pytest.mark.parametrize("way", ["torch_in_memory", "torch_dataloader"])
@pytest.mark.parametrize(("examples", "sizes"), [(72, [32, 32, 8]), (96, [32, 32, 32])])
def test_pytorch_trains_on_each_example_once_per_pass(pytorch, toy, monkeypatch, way, examples, sizes):
    batches = []

    def epochs(lesson, batches_of_epoch, compiled=False):
        for images, labels in batches_of_epoch():
            pixels = (images * 255).round().byte().numpy()
            batches.append(([bytes(image) for image in pixels], labels.tolist()))

    monkeypatch.setattr(pytorch, "epochs", epochs)
    pytorch.peers(toy)[way](LESSONS["mlp"], examples)
    assert seen(batches, toy) == sizes


@pytest.mark.parametrize("lesson_id", LESSONS)
def test_pytorch_networks_are_the_notebooks(pytorch, toy, lesson_id):
    """The same weights give the same outputs as the networks of the parity tests; dropout is where it is theirs."""
    import torch
    from parity_torch import Net

    lesson, notebook = LESSONS[lesson_id], Net(lesson_id, torch.float32).eval()
    network = pytorch.network(lesson).eval()
    names = [name for layer in (1, 2) for name in (f"fc{layer}", *[f"batch_norm{layer}"] * lesson.batch_norm)] + ["fc3"]
    for name, layer in zip(names, [layer for layer in network if layer.state_dict()], strict=True):
        for tensor in layer.state_dict().values():
            if tensor.is_floating_point():
                torch.nn.init.uniform_(tensor, 0.01, 0.1)
        getattr(notebook, name).load_state_dict(layer.state_dict())
    images = torch.from_numpy(toy.images).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(torch.log_softmax(network(images), 1), notebook(images, []))
    dropouts = [place for place, layer in enumerate(network) if isinstance(layer, torch.nn.Dropout)]
    activations = [place for place, layer in enumerate(network) if isinstance(layer, (torch.nn.Sigmoid, torch.nn.ReLU))]
    assert dropouts == ([] if lesson_id == "mlp" else [place + 1 for place in activations])
    assert all(network[place].p == 0.5 for place in dropouts)


@pytest.mark.parametrize(
    ("lesson_id", "kind", "options"), [("he", "SGD", {"lr": 0.01, "momentum": 0.5}), ("adam", "Adam", {"lr": 0.01})]
)
def test_pytorch_optimizers_are_the_notebooks(pytorch, monkeypatch, lesson_id, kind, options):
    made = []
    monkeypatch.setattr(f"torch.optim.{kind}", lambda _, **given: made.append(given))
    next(pytorch.epochs(LESSONS[lesson_id], lambda: iter(())))
    assert made == [options]


def test_pytorch_peers_need_pytorch(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "timing.pytorch", raising=False)
    notices = []
    found, environment = peers.find_peers(["jax_step_loop", "torch_in_memory", "torch_compile"], toy, notices.append)
    assert (list(found), environment) == (["jax_step_loop"], {})
    assert notices == ["PyTorch is not installed, so torch_in_memory, torch_compile are left out."]


def test_failing_torch_compile_is_left_out(pytorch, toy, monkeypatch):
    import torch

    def fails(function):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fails)
    notices = []
    found, environment = peers.find_peers(["torch_in_memory", "torch_compile"], toy, notices.append)
    assert list(found) == ["torch_in_memory"]
    assert environment == {"torch": torch.__version__, "torch_threads": 1, "torch_device": "cpu"}
    assert notices == ["torch.compile fails here and is left out: no compiler."]


def test_cuda_graph_needs_cuda(pytorch, toy):
    notices = []
    found, _ = peers.find_peers(["torch_in_memory", "torch_cuda_graph"], toy, notices.append)
    assert list(found) == ["torch_in_memory"]
    assert notices == ["PyTorch has no CUDA here, so torch_cuda_graph is left out."]


def test_a_process_per_core_is_for_the_cpu(pytorch, toy, monkeypatch):
    monkeypatch.setattr(pytorch, "DEVICE", "cuda")
    monkeypatch.setattr("torch.Tensor.to", lambda tensor, _: tensor)
    notices = []
    found, _ = peers.find_peers(["torch_in_memory", "torch_per_core"], toy, notices.append)
    assert list(found) == ["torch_in_memory"]
    assert notices == ["PyTorch trains on the GPU here, so torch_per_core is left out."]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_all_ways_are_there_but_one(pytorch, toy, monkeypatch, device):
    monkeypatch.setattr(pytorch, "DEVICE", device)
    monkeypatch.setattr("torch.Tensor.to", lambda tensor, _: tensor)
    ways = {name for name in get_args(peers.PeerName) if name.startswith("torch")}
    assert ways - set(pytorch.peers(toy)) == {pytorch.ELSEWHERE[device]}


def test_each_process_trains_on_one_thread(pytorch, toy, monkeypatch):
    import torch

    started, threads = [], []
    monkeypatch.setattr(pytorch, "cores", lambda: 3)
    monkeypatch.setattr(pytorch, "in_processes", lambda *given: started.append(given))
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    pytorch.peers(toy)["torch_per_core"](LESSONS["mlp"], 64)
    ((count, work, *arguments),) = started
    assert (count, threads) == (3, [])
    next(work(*arguments))
    assert threads == [1]


@pytest.fixture
def cuda(monkeypatch):
    """CUDA's streams and graphs, of which only is noted what happens: a replay does nothing."""
    log = []

    class Stream:
        def wait_stream(self, other):
            log.append("wait")

    class Graph:
        def replay(self):
            log.append("replay")

    def noted(begin, end):
        @contextlib.contextmanager
        def block(_):
            log.append(begin)
            yield
            log.append(end)

        return block

    streams = {"Stream": Stream, "current_stream": Stream, "stream": noted("side", "back")}
    for name, fake in {**streams, "CUDAGraph": Graph, "graph": noted("capture", "captured")}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", fake)
    return log


def test_step_is_captured_after_a_warm_up_and_replayed_on_each_whole_batch(pytorch, cuda):
    import torch

    places = []

    def step(images, labels):
        cuda.append(f"step on {len(labels)}")
        places.append((images, labels))

    images, labels = torch.arange(6.0).reshape(3, 2), torch.tensor([5, 6, 7])
    run = pytorch.captured(step, images, labels)
    assert cuda == ["wait", "side", *["step on 3"] * 3, "back", "wait", "capture", "step on 3", "captured"]
    cuda.clear()
    run(images + 10, labels + 1)
    held_images, held_labels = places[-1]
    assert cuda == ["replay"]
    assert torch.equal(held_images, images + 10)
    assert torch.equal(held_labels, labels + 1)
    run(images[:2], labels[:2])
    assert cuda == ["replay", "step on 2"]
    assert torch.equal(held_images, images + 10)


@pytest.mark.parametrize(("lesson_id", "options"), [("he", {"momentum": 0.5}), ("adam", {"capturable": True})])
def test_optimizer_can_be_captured(pytorch, cuda, monkeypatch, lesson_id, options):
    """Adam keeps its step count on the device only if asked."""
    import torch

    lesson, made = LESSONS[lesson_id], []

    class Noted(getattr(torch.optim, {"he": "SGD", "adam": "Adam"}[lesson_id])):
        def __init__(self, parameters, **given):
            made.append(given)
            super().__init__(parameters, **{**given, **({"capturable": False} if "capturable" in given else {})})

    monkeypatch.setattr(torch.optim, Noted.__base__.__name__, Noted)
    batch = torch.zeros(32, 1, 28, 28), torch.zeros(32, dtype=torch.int64)
    next(pytorch.epochs(lesson, lambda: iter([batch, batch]), graphed=True))
    assert made == [{"lr": 0.01, **options}]
    assert cuda.count("replay") == 2
