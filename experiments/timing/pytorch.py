"""The notebooks' training in PyTorch, on as many threads as it chooses.

All lessons start from PyTorch's own initial weights, which does not affect the time; the notebooks' second log-softmax
is left out.
"""

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import torch
from PIL import Image
from torch import nn

from mnist_jax.errors import reason
from mnist_jax.lessons import Lesson
from mnist_jax.runs.provenance import cores
from mnist_jax.train import Examples
from timing.processes import in_processes

DEVICE = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
ELSEWHERE = {"cpu": "torch_cuda_graph", "cuda": "torch_per_core"}  # the peer that makes no sense on a device


def describe() -> dict[str, Any]:
    """Version, threads and device, for speed.json."""
    return {"torch": torch.__version__, "torch_threads": torch.get_num_threads(), "torch_device": DEVICE}


def peers(train: Examples) -> dict[str, Any]:
    """The ways to train by name; a CUDA graph needs CUDA, and one process per core is for the CPU."""
    images, labels = (torch.tensor(array).to(DEVICE) for array in train)
    tensors = images.float() / 255, labels.long()
    found = {
        "torch_in_memory": functools.partial(in_memory, tensors),
        "torch_per_core": functools.partial(per_core, train),
        "torch_dataloader": functools.partial(dataloader, train),
        "torch_compile": functools.partial(in_memory, tensors, compiled=True),
        "torch_cuda_graph": functools.partial(in_memory, tensors, graphed=True),
    }
    return {name: way for name, way in found.items() if name != ELSEWHERE[DEVICE]}


def in_memory(tensors: tuple[Any, Any], lesson: Lesson, examples: int, **how: bool) -> Iterator[None]:
    """Train on float32 images and int64 labels on the device."""
    images, labels = tensors

    def batches() -> Iterator[Any]:
        order = torch.randperm(len(labels), device=DEVICE).repeat(math.ceil(examples / len(labels)))
        for indices in order[:examples].split(lesson.batch_size):
            yield images[indices], labels[indices]

    return epochs(lesson, batches, **how)


def per_core(train: Examples, lesson: Lesson, examples: int) -> Iterator[None]:
    """Train like `in_memory` in one process per core, each with one thread."""
    return in_processes(cores(), on_one_thread, train, lesson, examples)


def on_one_thread(train: Examples, lesson: Lesson, examples: int) -> Iterator[None]:
    """`in_memory` on one thread of this process."""
    torch.set_num_threads(1)
    return peers(train)["torch_in_memory"](lesson, examples)


def dataloader(train: Examples, lesson: Lesson, examples: int) -> Iterator[None]:
    """Train as the notebooks do: PIL images converted to tensors one by one, in a DataLoader."""
    images, labels = (torch.tensor(array) for array in train)

    def loaded(indices: list[int]) -> Any:
        pairs = [(to_tensor(images[index % len(labels)]), int(labels[index % len(labels)])) for index in indices]
        return torch.utils.data.default_collate(pairs)

    numbers = range(len(labels) * math.ceil(examples / len(labels)))
    loader = torch.utils.data.DataLoader(numbers, batch_size=lesson.batch_size, shuffle=True, collate_fn=loaded)
    return epochs(lesson, lambda: itertools.islice(loader, math.ceil(examples / lesson.batch_size)))


def to_tensor(image: Any) -> Any:
    """Convert an image as torchvision's MNIST with ToTensor does: uint8 `[28, 28]` to float32 `[1, 28, 28]`."""
    picture = Image.fromarray(image.numpy())
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(*picture.size, 1)
    return pixels.permute(2, 0, 1).contiguous().float().div(255)


def epochs(
    lesson: Lesson, batches: Callable[[], Iterator[Any]], *, compiled: bool = False, graphed: bool = False
) -> Iterator[None]:
    """Train a lesson's net on `batches()` at each `next`.

    If `compiled`, network and loss are compiled; if `graphed`, a step is a CUDA graph.
    """
    net, criterion = network(lesson).to(DEVICE), nn.CrossEntropyLoss()
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[lesson.optimizer.name]
    options = dict(lesson.optimizer.hyperparameters)
    if graphed and lesson.optimizer.name == "adam":
        options["capturable"] = True  # its step count is on the device; SGD has none
    optimizer = kind(net.parameters(), lr=lesson.optimizer.learning_rate, **options)

    def loss_of(images: Any, labels: Any) -> Any:
        return criterion(net(images), labels)

    if compiled:
        torch._dynamo.config.recompile_limit = 64  # each lesson compiles the function again
        loss_of = torch.compile(loss_of)

    def plain_step(images: Any, labels: Any) -> None:
        loss_of(images, labels).backward()
        optimizer.step()
        optimizer.zero_grad()  # at the end, so that a capture begins and ends without gradients

    step = captured(plain_step, *next(batches())) if graphed else plain_step
    while True:
        for images, labels in batches():
            step(images.to(DEVICE), labels.to(DEVICE))
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        yield


def captured(step: Callable[[Any, Any], None], images: Any, labels: Any) -> Callable[[Any, Any], None]:
    """The step as a CUDA graph for batches of this size; other batches use the step as it is.

    Following https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture: some steps on a side stream
    allocate the optimizer's state; then one is captured, on tensors that stay in the same place for every replay.
    """
    held = images.clone(), labels.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(*held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(*held)

    def replay(images: Any, labels: Any) -> None:
        if len(labels) != len(held[1]):
            return step(images, labels)
        for place, tensor in zip(held, (images, labels), strict=True):
            place.copy_(tensor)
        return graph.replay()

    return replay


def why_not_compiled() -> str | None:
    """Why torch.compile does not work here; None if it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(lambda numbers: numbers + 1)(torch.zeros(2, device=DEVICE))
    except Exception as error:  # of many kinds: no compiler, an unsupported system, ...
        return reason(error)
    return None


def network(lesson: Lesson) -> Any:
    """784 -> hidden blocks -> 10 logits, as `lesson` specifies."""
    layers = [nn.Flatten()]
    *blocks, last = itertools.pairwise(lesson.widths)
    for fan_in, width in blocks:
        layers.append(nn.Linear(fan_in, width))
        if lesson.batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append({"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[lesson.activation]())
        if lesson.dropout_rate:
            layers.append(nn.Dropout(lesson.dropout_rate))
    return nn.Sequential(*layers, nn.Linear(*last))
