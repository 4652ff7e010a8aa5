"""The PyTorch side: the notebooks' networks as the course describes them, fed the JAX run's weights and masks.

Written from the course's facts, not from mnist_jax: only the lessons' ids and the form of the answer are shared.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from parity_jax import Start
from torch import nn

from mnist_jax.studies.verification import Trajectory, centred

SIGMOID = {"mlp", "dropout"}
DROPOUT = {"dropout", "relu", "batch_norm", "he", "adam"}
BATCH_NORM = {"batch_norm", "he", "adam"}


class Net(nn.Module):
    """784 -> 512 -> 256 -> 10; dropout takes the masks it is given."""

    def __init__(self, lesson_id, dtype):
        super().__init__()
        self.lesson_id = lesson_id
        self.fc1 = nn.Linear(28 * 28, 512, dtype=dtype)
        self.fc2 = nn.Linear(512, 256, dtype=dtype)
        self.fc3 = nn.Linear(256, 10, dtype=dtype)
        if lesson_id in BATCH_NORM:
            self.batch_norm1 = nn.BatchNorm1d(512, dtype=dtype)
            self.batch_norm2 = nn.BatchNorm1d(256, dtype=dtype)

    def forward(self, x, masks):
        x = x.view(-1, 28 * 28)
        for number in (1, 2):
            x = getattr(self, f"fc{number}")(x)
            if self.lesson_id in BATCH_NORM:
                x = getattr(self, f"batch_norm{number}")(x)
            x = torch.sigmoid(x) if self.lesson_id in SIGMOID else F.relu(x)
            if self.lesson_id in DROPOUT and self.training:
                x = x * masks[number - 1] / (1 - 0.5)
        # As in the notebooks: the loss below applies log-softmax once more, which changes nothing.
        return F.log_softmax(self.fc3(x), dim=1)


def run_torch(lesson_id: str, start: Start) -> Trajectory:
    """Train the lesson's notebook network from `start`."""
    torch.set_num_threads(1)  # small products; more threads only get in each other's way
    dtype = getattr(torch, start.params["fc1"]["kernel"].dtype.name)
    net = Net(lesson_id, dtype)
    load(net, start.params)
    optimizer = (
        torch.optim.Adam(net.parameters(), lr=0.01)
        if lesson_id == "adam"
        else torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    )
    criterion = nn.CrossEntropyLoss()

    def forward(examples, masks):
        images = torch.from_numpy(examples.images).to(dtype) / 255  # what torchvision's ToTensor does
        return net(images, [torch.from_numpy(mask) for mask in masks])

    losses = []
    for batch, masks in zip(start.batches, start.masks[:-1], strict=True):
        optimizer.zero_grad()
        loss = criterion(forward(batch, masks), torch.from_numpy(batch.labels).long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    # The one known difference: PyTorch keeps n/(n-1) times the batch's variance in its running average.
    stats = {}
    if lesson_id in BATCH_NORM:
        kept = 0.9 ** len(start.batches)
        n = len(start.batches[0].labels)
        for name in ("batch_norm1", "batch_norm2"):
            layer = getattr(net, name)
            layer.running_var.sub_(kept).mul_((n - 1) / n).add_(kept)
            stats[name] = {"mean": layer.running_mean.numpy().copy(), "var": layer.running_var.numpy().copy()}

    moments = {"momentum_buffer": "trace", "exp_avg": "mu", "exp_avg_sq": "nu"}
    end = {"params": as_flax(net, lambda p: p), "batch_stats": stats}
    for theirs, ours in moments.items():
        if theirs in optimizer.state[net.fc1.weight]:
            end[f"optimizer.{ours}"] = as_flax(net, lambda p, name=theirs: optimizer.state[p][name])

    net.eval()
    with torch.no_grad():
        # Before the softmax, up to a constant per row, which log-softmax subtracts.
        end["logits"] = {"last": {"centred": centred(forward(start.probe, []).numpy())}}
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.track_running_stats = False  # the gradient's pass must not move them
    net.train()
    optimizer.zero_grad()
    criterion(forward(start.probe, start.masks[-1]), torch.from_numpy(start.probe.labels).long()).backward()
    end["gradients"] = as_flax(net, lambda p: p.grad)
    return Trajectory(np.array(losses), end)


def load(net, params):
    """Flax's weights into PyTorch's layout."""
    with torch.no_grad():
        for name, part in params.items():
            layer = getattr(net, name)
            layer.weight.copy_(torch.tensor(part["kernel"].T if "kernel" in part else part["scale"]))
            layer.bias.copy_(torch.tensor(part["bias"]))


def as_flax(net, value):
    """PyTorch's tensors, one for each parameter, in Flax's names and layout."""
    tree = {}
    for name, layer in net.named_children():
        weight, bias = (value(p).detach().numpy().copy() for p in (layer.weight, layer.bias))
        tree[name] = {"kernel": weight.T, "bias": bias} if weight.ndim == 2 else {"scale": weight, "bias": bias}
    return tree
