"""How fast is it, and how fast could it be?

    python experiments/speed.py --data FOLDER --out DIR

times an epoch of each lesson (split `notebooks`: 60,000 examples, batch 32) against

- the floor: the epoch's matrix products and nothing else: for each step the same eight and w - rate * gradient, without
  momentum, biases, activations, loss or data, in one jitted scan;
- `tuned_floor`: the same with the compiler's options of ours, which make it faster on a CPU;
- `jax_step_loop`: a jitted step called from a Python loop with slices of shuffled arrays, as in most JAX examples;
- `torch_in_memory`: eager PyTorch, images in memory as float32;
- `torch_dataloader`: eager PyTorch as in the notebooks: a PIL image made a tensor one by one, behind a DataLoader;
- `torch_compile`: `torch_in_memory` with `torch.compile` around network and loss.

PyTorch trains the notebooks' nets, on as many threads as it chooses, with its own initial weights for all lessons
(their values take no time) and without the notebooks' second log-softmax. All run in one process, in turns: every
repeat times each of them once, after one that does not count. A ratio is the median over repeats of the ratio of times
measured in the same repeat. The floors and ours run whole epochs; the others `--peer-share` of one, and their times are
scaled to it.

Also: seconds to trace, lower and compile an epoch, without JAX's caches; seconds from a process's start to the line of
its first epoch, which tells the test accuracy too, with an empty cache folder (cold; on Linux) and with what that start
left there (warm), and the process's peak memory; how an epoch's time grows with examples, batch size and widths; and
with `--replicas 1 8 32 128` whole runs side by side. A step of theirs must move at least the weights: read in the
forward and in the backward pass (the first kernel's second read, which is not needed, is counted too), the gradient
written and read, the weight written, and what the optimizer keeps read and written. This gives the traffic reached,
beside what the device reaches in copying 256 MiB; nets that stay in a cache can do more than that.

Written to DIR: `speed.json` (every time), `README.md`, `speed.png`. The times of a machine that does something else
beside are worth nothing, PyTorch's least of all: its threads wait for each other many times a step.

Answer: see experiments/results/speed/README.md, which has the ratios to both floors.
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import contextlib
import dataclasses
import functools
import importlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from rich.console import Console

from mnist_jax.cli.arguments import parsed
from mnist_jax.cli.start import check_jax
from mnist_jax.cli.terminal import load_data, make_console, table, with_time_left
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError, check_choice, reason
from mnist_jax.lessons import CLASSES, LESSONS, Lesson, lesson_by_id
from mnist_jax.runs.devices import COMPILER_OPTIONS, Trainer, on_device
from mnist_jax.runs.files import SPEED, TABLE, make_folder, write_files, write_results
from mnist_jax.runs.provenance import command_line, environment
from mnist_jax.runs.records import Run
from mnist_jax.train import Examples, TrainState, init_state, train_step
from mnist_jax.views.figures import speed_figure
from mnist_jax.views.words import count_of, data_words, markdown_table

PEERS = {
    "jax_step_loop": "JAX, a call a step",
    "torch_in_memory": "PyTorch, in memory",
    "torch_dataloader": "PyTorch, DataLoader",
    "torch_compile": "torch.compile",
}
FLOOR_RATE = 1e-8  # so small that the floor's weights stay of ordinary size, however long it runs
COPIED = 256 * 2**20  # bytes
COLD_AND_WARM = ("cold", "warm")
REPLICA_HEADER = ["lesson", "replicas", "seconds", "seconds a replica", "compile (s)", "GB/s", "of a copy's"]


class Point(NamedTuple):
    """What an epoch's time may depend on: examples it draws, examples a batch, widths as multiples of the lesson's."""

    examples: int
    batch_size: int
    width: float

    def __str__(self) -> str:
        return f"{self.examples:,} examples, batches of {self.batch_size:,}, widths times {self.width:g}"


SCALED_LESSONS = ("mlp", "adam")
BASE = Point(60_000, 32, 1.0)
SCALES: dict[str, tuple[Any, ...]] = {
    "examples": (3_750, 7_500, 15_000, 30_000, 60_000),
    "batch_size": (8, 32, 128, 512, 2048),
    "width": (0.25, 0.5, 1.0, 2.0),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Time an epoch of each lesson against the floor and against other ways to train it.

    Attributes:
      lessons: which.
      repeats: of everything but starts and replicas, each of which ends up in a median.
      peers: jax_step_loop, torch_in_memory, torch_dataloader, torch_compile, or none.
      peer_share: of an epoch for which peers are timed; above 0, at most 1.
      start_repeats: cold and warm starts of each lesson; 0 for none.
      scaling: also vary examples, batch size and widths of mlp and adam, if they are among the lessons.
      replicas: for each number the seconds of so many runs side by side.
      replica_epochs: of each such run.
      data: auto, tfds, sample, or a folder with MNIST's files or TFDS data.
      data_dir: TFDS's folder, if not its standard one.
      out: folder for results, new or without a run; by default runs/speed-DATE-TIME.
    """

    lessons: tuple[str, ...] = tuple(LESSONS)
    repeats: int = 5
    peers: tuple[str, ...] = tuple(PEERS)
    peer_share: float = 0.2
    start_repeats: int = 3
    scaling: bool = True
    replicas: tuple[int, ...] = ()
    replica_epochs: int = 10
    data: str = "auto"
    data_dir: Path | None = None
    out: Path | None = None


def run(arguments: Arguments) -> None:
    """Measure, print the tables, write the files."""
    check(arguments)
    lessons = {lesson_id: lesson for lesson_id, lesson in LESSONS.items() if lesson_id in arguments.lessons}
    data = load_data(arguments.data, "notebooks", arguments.data_dir)
    console = make_console()
    folder = make_folder(arguments.out, "speed", SPEED)
    load_average = os.getloadavg()[0]
    with given_up_if_empty(folder / SPEED):
        # First, while this process is small and holds no accelerator: a new process counts its parent's peak memory as
        # its own, and what this one has loaded so far the others load too.
        starts = start_seconds(lessons, arguments, data, console)
        check_jax()
        results: dict[str, Any] = {
            "device": environment()["device"],
            "repeats": arguments.repeats,
            "data": data.describe(),
            "config": {
                "command": command_line("python experiments/speed.py"),
                **json.loads(json.dumps(dataclasses.asdict(arguments), default=str)),
            },
            "environment": {**environment(), "load_average": load_average},
            "notices": [],
        }
        if load_average > (os.cpu_count() or 1) / 4:
            results["notices"].append(
                f"The machine was busy when this began (load average {load_average:.1f}): do not trust these times."
            )
        results |= epoch_times(lessons, arguments, data, results, console)
        results |= starts
        results["scaling"] = scaling_times(lessons, arguments, data, console) if arguments.scaling else {}
        results |= replica_times(lessons, arguments, data, console)
    write_results(folder, results, SPEED)
    written = [folder / SPEED, *write_files(folder, report(results))]
    console.print(table("An epoch", header(results), rows(results)))
    console.print(caption(results), soft_wrap=True)
    if results["replicas"]:
        console.print(table("Side by side", REPLICA_HEADER, replica_rows(results)))
        console.print(replica_caption(results), soft_wrap=True)
    for notice in results["notices"]:
        console.print(notice, style="bold red", soft_wrap=True)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


@contextlib.contextmanager
def given_up_if_empty(path: Path) -> Iterator[None]:
    """Take back the claim of a run that ends before it has anything to show."""
    try:
        yield
    except BaseException:
        path.unlink()
        raise


def check(arguments: Arguments) -> None:
    """Raise `UserError` for what cannot be run."""
    for lesson_id in arguments.lessons:
        lesson_by_id(lesson_id)
    for peer in arguments.peers:
        check_choice("peer", peer, PEERS)
    if not arguments.lessons:
        raise UserError(f"At least one lesson is needed: {', '.join(LESSONS)}.")
    if not 0 < arguments.peer_share <= 1:
        raise UserError(f"The peers' share of an epoch must be above 0 and at most 1, not {arguments.peer_share}.")
    numbers = {"repeats": arguments.repeats, "replica-epochs": arguments.replica_epochs}
    for name, number in [*numbers.items(), *(("replicas", count) for count in arguments.replicas)]:
        if number < 1:
            raise UserError(f"--{name} takes numbers of at least 1, not {number}.")
    if arguments.start_repeats < 0:
        raise UserError(f"--start-repeats must be at least 0, not {arguments.start_repeats}.")


# --- from the start of a process to its first epoch ---


def start_seconds(
    lessons: Mapping[str, Lesson], arguments: Arguments, data: Dataset, console: Console
) -> dict[str, Any]:
    """Medians of seconds to the first epoch, and the largest peak memory, of each lesson; all times too."""
    raw: dict[str, dict[str, list[float]]] = {kind: {lesson_id: [] for lesson_id in lessons} for kind in COLD_AND_WARM}
    memory: dict[str, int] = {}
    parts = [(f"start {number}", lesson) for number in range(1, 1 + arguments.start_repeats) for lesson in lessons]
    for _, lesson_id in with_time_left(parts, console):
        with tempfile.TemporaryDirectory() as temporary:
            for kind in COLD_AND_WARM:
                command = start_command(lesson_id, arguments, data, Path(temporary, kind))
                seconds, peak = first_epoch(command, Path(temporary, "cache"))
                raw[kind][lesson_id].append(seconds)
                memory[lesson_id] = max(peak, memory.get(lesson_id, 0))
    return {
        "first_epoch_seconds": {kind: medians(raw[kind]) for kind in COLD_AND_WARM} if parts else {},
        "all_first_epoch_seconds": raw if parts else {},
        "peak_memory_bytes": memory,
    }


def start_command(lesson_id: str, arguments: Arguments, data: Dataset, out: Path) -> list[str]:
    """An epoch of a lesson from the command line, on the data that were found here."""
    source = arguments.data if data.source == "folder" else data.source
    command = ["train", lesson_id, "--epochs", "1", "--split", "notebooks", "--data", source, "--out", str(out)]
    data_dir = [] if arguments.data_dir is None else ["--data-dir", str(arguments.data_dir)]
    return [sys.executable, "-m", "mnist_jax", *command, *data_dir]


def first_epoch(command: Sequence[str], cache: Path) -> tuple[float, int]:
    """Run a command; returns the seconds until it printed its first epoch, and its peak memory in bytes.

    Args:
      command: prints a line with "epoch  1".
      cache: stands for the user's cache folder.

    Raises:
      UserError: it failed.
    """
    variables = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    variables["XDG_CACHE_HOME"] = str(cache)
    seconds, last = None, "it printed nothing"
    began = time.perf_counter()
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            if seconds is None and "epoch  1" in line:
                seconds = time.perf_counter() - began
            last = line.strip() or last
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or seconds is None:
        raise UserError(f"A start of mnist-jax failed ({last}); --start-repeats 0 leaves starts out.")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# --- epochs ---


def epoch_times(
    lessons: Mapping[str, Lesson], arguments: Arguments, data: Dataset, results: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Times of compilation and of epochs, ours and others'; extends `results`' notices and environment."""
    placed = on_device(data)
    trainers = {lesson_id: Trainer(lesson, placed, [Run(0)]) for lesson_id, lesson in lessons.items()}
    states = {lesson_id: trainer.start([Run(0)]) for lesson_id, trainer in trainers.items()}
    compiling: dict[str, list[float]] = {lesson_id: [] for lesson_id in lessons}
    parts = [(f"compile {number}", lesson) for number in range(1, 1 + arguments.repeats) for lesson in lessons]
    for _, lesson_id in with_time_left(parts, console):
        compiling[lesson_id].append(compile_seconds(trainers[lesson_id], states[lesson_id]))

    peers = peer_epochs(arguments.peers, data.train, results)
    # One floor serves all lessons: their widths and batches are the same.
    floors = {
        name: floor(next(iter(lessons.values())), data.epoch_length, options)
        for name, options in floor_options().items()
    }
    contestants: dict[str, dict[Any, Iterator[float]]] = {}
    for _, lesson_id in with_time_left([("prepare", lesson_id) for lesson_id in lessons], console):
        lesson = lessons[lesson_id]
        count, scale = part_of_epoch(data.epoch_length, lesson.batch_size, arguments.peer_share)
        contestants[lesson_id] = {**floors, "ours": ours(trainers[lesson_id], states[lesson_id])}
        for name, epochs in peers.items():
            try:
                contestants[lesson_id][name] = scaled(epochs(lesson, count), scale)
            except CompileError as error:
                results["notices"].append(f"torch.compile fails here for {lesson_id} and is left out: {error}")
    seconds = in_turns(contestants, arguments.repeats, console)
    others = {name: seconds[name] for name in peers if name in seconds}
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        **{
            f"{name}_seconds": statistics.median(itertools.chain.from_iterable(seconds[name].values()))
            for name in floors
        },
        "epoch_seconds": medians(seconds["ours"]),
        "peer_epoch_seconds": {name: medians(times) for name, times in others.items()},
        **{f"ratio_to_{name}": paired_ratios(seconds["ours"], seconds[name]) for name in floors},
        "ratio_to_ours": {name: paired_ratios(times, seconds["ours"]) for name, times in others.items()},
        "compile_seconds": medians(compiling),
        "seconds": seconds,
        "all_compile_seconds": compiling,
        "peak_device_memory_bytes": memory,  # of all lessons, with floor and peers
    }


def peer_epochs(
    names: Sequence[str], train: Examples, results: dict[str, Any]
) -> dict[str, Callable[[Lesson, int], Iterator[float]]]:
    """The named peers that can run here; extends `results`' notices and environment.

    Each takes a lesson and a number of examples, and gives the seconds for these, time after time.
    """
    peers: dict[str, Callable[[Lesson, int], Iterator[float]]] = {
        "jax_step_loop": functools.partial(jax_step_loop, train)
    }
    if wanted := [name for name in names if name.startswith("torch")]:
        try:
            torch = PyTorch(train)
        except ImportError:
            results["notices"].append(f"PyTorch is not installed, so {', '.join(wanted)} are left out.")
        else:
            results["environment"] |= torch.describe()
            peers |= {
                "torch_in_memory": torch.in_memory,
                "torch_dataloader": torch.dataloader,
                "torch_compile": torch.compiled,
            }
    return {name: peers[name] for name in PEERS if name in names and name in peers}


def in_turns(
    contestants: Mapping[str, Mapping[Any, Iterator[float]]], repeats: int, console: Console
) -> dict[Any, dict[str, list[float]]]:
    """Seconds of every repeat, after one that does not count: contestant -> lesson -> list.

    Args:
      contestants: lesson -> contestant -> seconds of one epoch after another.
      repeats: how many count.
      console: where progress is shown.
    """
    seconds: dict[Any, dict[str, list[float]]] = {}
    rounds = ["warm-up", *(f"repeat {number}" for number in range(1, 1 + repeats))]
    for part, lesson_id in with_time_left(list(itertools.product(rounds, contestants)), console):
        for name, epochs in contestants[lesson_id].items():
            measured = next(epochs)
            if part != "warm-up":
                seconds.setdefault(name, {}).setdefault(lesson_id, []).append(measured)
    return seconds


def ours(trainer: Trainer, states: TrainState) -> Iterator[float]:
    """Seconds of one epoch after another, as `train_runs` trains; the trainer has compiled it."""
    while True:
        began = time.perf_counter()
        states, loss, _ = trainer.epoch(states)
        jax.block_until_ready((states, loss))
        yield time.perf_counter() - began


def compile_seconds(trainer: Trainer, states: TrainState) -> float:
    """Seconds to trace, lower and compile an epoch, without any cache of JAX."""
    with without_compilation_cache():
        jax.clear_caches()
        began = time.perf_counter()
        trainer.compile(states)
        return time.perf_counter() - began


@contextlib.contextmanager
def without_compilation_cache() -> Iterator[None]:
    """JAX's persistent cache is off, and afterwards as it was."""
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()  # JAX looks at the setting once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        reset_cache()


def floor_options() -> dict[str, dict[str, Any] | None]:
    """The floors' names, and how each is compiled."""
    return {"floor": None, "tuned_floor": COMPILER_OPTIONS.get(jax.default_backend())}


def floor(lesson: Lesson, examples: int, options: Mapping[str, Any] | None) -> Iterator[float]:
    """Seconds of one epoch after another of a floor; see the module's docstring."""
    generator = np.random.default_rng(0)
    shapes = list(itertools.pairwise((784, *lesson.hidden, CLASSES)))
    weights = [jnp.asarray(generator.normal(0, shape[0] ** -0.5, shape), jnp.float32) for shape in shapes]
    inputs = jnp.asarray(generator.random((lesson.batch_size, 784)), jnp.float32)
    steps = math.ceil(examples / lesson.batch_size)
    lowered: Any = jax.jit(functools.partial(floor_epoch, steps=steps), donate_argnums=0).lower(weights, inputs)
    compiled = lowered.compile(compiler_options=options)
    while True:
        began = time.perf_counter()
        weights = jax.block_until_ready(compiled(weights, inputs))
        yield time.perf_counter() - began


def floor_epoch(weights: list[jax.Array], inputs: jax.Array, steps: int) -> list[jax.Array]:
    """The kernels after `steps` steps of a linear net on one batch, its outputs taken for their own gradients."""

    def step(weights: list[jax.Array], _: None) -> tuple[list[jax.Array], None]:
        outputs, pull_back = jax.vjp(lambda weights: functools.reduce(jnp.matmul, weights, inputs), weights)
        (gradients,) = pull_back(outputs)
        return [weight - FLOOR_RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)], None

    return jax.lax.scan(step, weights, length=steps)[0]


def jax_step_loop(train: Examples, lesson: Lesson, count: int) -> Iterator[float]:
    """Seconds for `count` examples, time after time: a call of the compiled step for each batch."""
    state = init_state(lesson, jax.random.key(0))
    generator = np.random.default_rng(0)
    while True:
        began = time.perf_counter()
        passes = [generator.permutation(train.size) for _ in range(math.ceil(count / train.size))]
        order = np.concatenate(passes)[:count]
        images, labels = train.images[order], train.labels[order]
        for first in range(0, count, lesson.batch_size):
            batch = slice(first, first + lesson.batch_size)
            state, loss = train_step(state, Examples(images[batch], labels[batch]))
        jax.block_until_ready((state, loss))
        yield time.perf_counter() - began


def part_of_epoch(examples: int, batch_size: int, share: float) -> tuple[int, float]:
    """Examples in at least this share of an epoch, in whole batches, and by what to multiply their time."""
    count = min(examples, batch_size * math.ceil(share * examples / batch_size))
    return count, examples / count


def scaled(seconds: Iterator[float], scale: float) -> Iterator[float]:
    """Each times `scale`."""
    return (each * scale for each in seconds)


# --- PyTorch ---


class CompileError(Exception):
    """torch.compile does not work here."""


class PyTorch:
    """The notebooks' training; on the GPU where JAX uses one and PyTorch can, else on the CPU.

    Args:
      train: numpy arrays.

    Raises:
      ImportError: it is not installed.
    """

    def __init__(self, train: Examples) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._device = "cuda" if jax.default_backend() == "gpu" and self._torch.cuda.is_available() else "cpu"
        self._train = train

    def describe(self) -> dict[str, Any]:
        """Version, threads and device, for speed.json."""
        threads = self._torch.get_num_threads()
        return {"torch": self._torch.__version__, "torch_threads": threads, "torch_device": self._device}

    def net(self, lesson: Lesson) -> Any:
        """784 -> hidden blocks -> 10 logits, as `lesson` says."""
        nn = self._torch.nn
        layers = [nn.Flatten()]
        for fan_in, width in itertools.pairwise((784, *lesson.hidden)):
            layers.append(nn.Linear(fan_in, width))
            if lesson.batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append({"sigmoid": nn.Sigmoid, "relu": nn.ReLU}[lesson.activation]())
            if lesson.dropout_rate:
                layers.append(nn.Dropout(lesson.dropout_rate))
        return nn.Sequential(*layers, nn.Linear(lesson.hidden[-1], CLASSES)).to(self._device)

    def in_memory(self, lesson: Lesson, count: int, *, compiled: bool = False) -> Iterator[float]:
        """Seconds for `count` examples, time after time, of tensors on the device."""
        torch = self._torch
        images, labels = self._tensors

        def batches() -> Iterator[Any]:
            passes = [torch.randperm(len(labels), device=self._device) for _ in range(math.ceil(count / len(labels)))]
            for indices in torch.cat(passes)[:count].split(lesson.batch_size):
                yield images[indices], labels[indices]

        return self._epochs(lesson, batches, compiled)

    def dataloader(self, lesson: Lesson, count: int) -> Iterator[float]:
        """Seconds for `count` examples, time after time, as the notebooks load them."""
        pictures = Pictures(self._torch, self._train, math.ceil(count / self._train.size))
        loader = self._torch.utils.data.DataLoader(pictures, batch_size=lesson.batch_size, shuffle=True)
        steps = math.ceil(count / lesson.batch_size)
        return self._epochs(lesson, lambda: itertools.islice(loader, steps))

    def compiled(self, lesson: Lesson, count: int) -> Iterator[float]:
        """As `in_memory`, with network and loss compiled.

        Raises:
          CompileError: that does not work here.
        """
        seconds = self.in_memory(lesson, count, compiled=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                next(seconds)
        except Exception as error:  # of many kinds: no compiler, a system that it does not know, ...
            raise CompileError(reason(error)) from error
        return seconds

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        """Images as float32 and labels as int64, for all lessons the same."""
        images, labels = (self._torch.tensor(array).to(self._device) for array in self._train)
        return images.float() / 255, labels.long()

    def _epochs(self, lesson: Lesson, batches: Callable[[], Iterator[Any]], compiled: bool = False) -> Iterator[float]:
        torch = self._torch
        net, criterion = self.net(lesson), torch.nn.CrossEntropyLoss()
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[lesson.optimizer.name]
        numbers = dict(lesson.optimizer.hyperparameters)
        optimizer = kind(net.parameters(), lr=lesson.optimizer.learning_rate, **numbers)

        def loss_of(images: Any, labels: Any) -> Any:
            return criterion(net(images), labels)

        if compiled:
            torch._dynamo.config.recompile_limit = 64  # of this function: each lesson compiles it again
            loss_of = torch.compile(loss_of)
        while True:
            began = time.perf_counter()
            for images, labels in batches():
                optimizer.zero_grad()
                loss_of(images.to(self._device), labels.to(self._device)).backward()
                optimizer.step()
            if self._device == "cuda":
                torch.cuda.synchronize()
            yield time.perf_counter() - began


class Pictures:
    """What torchvision's MNIST with its ToTensor is to a DataLoader; `passes` times over."""

    def __init__(self, torch: Any, train: Examples, passes: int) -> None:
        self._torch = torch
        self._images, self._labels = (torch.tensor(array) for array in train)
        self._passes = passes

    def __len__(self) -> int:
        return self._passes * len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        index %= len(self._labels)
        picture = Image.fromarray(self._images[index].numpy())
        pixels = self._torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(*picture.size, 1)
        return pixels.permute(2, 0, 1).contiguous().float().div(255), int(self._labels[index])


# --- how time grows ---


def scaling_times(
    lessons: Mapping[str, Lesson], arguments: Arguments, data: Dataset, console: Console
) -> dict[str, Any]:
    """What is varied -> values, the work each should make, and seconds: lesson -> a list of repeats a value."""
    chosen = {lesson_id: lesson for lesson_id, lesson in lessons.items() if lesson_id in SCALED_LESSONS}
    if not chosen:
        return {}
    placed = on_device(data)
    points = {varied: [BASE._replace(**{varied: value}) for value in values] for varied, values in SCALES.items()}
    contestants: dict[str, dict[Any, Iterator[float]]] = {lesson_id: {} for lesson_id in chosen}
    parts = list(itertools.product(chosen, dict.fromkeys(itertools.chain.from_iterable(points.values()))))
    for lesson_id, point in with_time_left(parts, console):
        long = dataclasses.replace(placed, epoch_length=point.examples)
        trainer = Trainer(at(chosen[lesson_id], point), long, [Run(0)])
        states = trainer.start([Run(0)])
        trainer.compile(states)
        contestants[lesson_id][point] = ours(trainer, states)
    seconds = in_turns(contestants, arguments.repeats, console)
    work: dict[str, Callable[[Point], int]] = {
        "examples": lambda point: point.examples,
        "batch_size": lambda point: math.ceil(point.examples / point.batch_size),
        "width": lambda point: weights_and_kept(at(next(iter(chosen.values())), point))[0],
    }
    return {
        varied: {
            "values": list(SCALES[varied]),
            "work": [work[varied](point) for point in along],
            "seconds": {lesson_id: [seconds[point][lesson_id] for point in along] for lesson_id in chosen},
        }
        for varied, along in points.items()
    }


def at(lesson: Lesson, point: Point) -> Lesson:
    """The lesson with this batch size and its widths so many times as large."""
    hidden = tuple(max(1, round(width * point.width)) for width in lesson.hidden)
    return dataclasses.replace(lesson, hidden=hidden, batch_size=point.batch_size)


# --- side by side ---


def replica_times(
    lessons: Mapping[str, Lesson], arguments: Arguments, data: Dataset, console: Console
) -> dict[str, Any]:
    """An entry for each lesson and number of runs side by side, and what a copy reaches."""
    if not arguments.replicas:
        return {"replicas": []}
    copied = copy_bandwidth(arguments.repeats)
    devices = len(jax.devices())
    parts = [("side by side", lesson, count) for lesson in lessons for count in arguments.replicas]
    entries = []
    for _, lesson_id, count in with_time_left(parts, console):
        lesson, runs = lessons[lesson_id], [Run(seed) for seed in range(count)]
        trainer = Trainer(lesson, data, runs, side_by_side=math.ceil(count / devices))
        states = trainer.start(runs)
        compiling = compile_seconds(trainer, states)
        epochs = ours(trainer, states)
        seconds = [next(epochs) for _ in range(arguments.replica_epochs)]
        steps = data.steps(lesson) * arguments.replica_epochs
        a_device = count * steps * bytes_per_step(lesson) / sum(seconds) / min(count, devices)
        entries.append(
            {
                "lesson": lesson_id,
                "replicas": count,
                "devices": min(count, devices),
                "epochs": arguments.replica_epochs,
                "compile_seconds": compiling,
                "epoch_seconds": seconds,
                "seconds": sum(seconds),
                "seconds_per_replica": sum(seconds) / count,
                "bytes_per_step": bytes_per_step(lesson),
                "gigabytes_per_second": a_device / 1e9,
                "share_of_copy": a_device / copied,
            }
        )
    return {"replicas": entries, "copy_gigabytes_per_second": copied / 1e9}


def bytes_per_step(lesson: Lesson) -> int:
    """The least that a step of one net must move, in float32; see the module's docstring."""
    weights, kept = weights_and_kept(lesson)
    return 4 * (5 * weights + 2 * kept)


def weights_and_kept(lesson: Lesson) -> tuple[int, int]:
    """How many parameters a net has, and how many numbers its optimizer keeps for them."""
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    kept = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    return sum(leaf.size for leaf in jax.tree.leaves(state.params)), kept


def copy_bandwidth(repeats: int) -> float:
    """Bytes a second that the first device reads and writes in adding 1 to an array in its place."""
    add = jax.jit(lambda array: array + 1, donate_argnums=0)
    array = jax.block_until_ready(add(jnp.zeros(COPIED // 4, jnp.float32)))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        array = jax.block_until_ready(add(array))
        seconds.append(time.perf_counter() - began)
    return 2 * COPIED / statistics.median(seconds)


# --- what is shown ---


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each lesson."""
    return {lesson_id: statistics.median(seconds) for lesson_id, seconds in times.items()}


def paired_ratios(times: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each lesson the median over repeats of one's seconds over the other's in the same repeat."""
    return {
        lesson_id: statistics.median(a / b for a, b in zip(seconds, others[lesson_id], strict=True))
        for lesson_id, seconds in times.items()
    }


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the tables and the figure of speed.json."""
    text = f"{markdown_table(header(results), rows(results))}\n{caption(results)}\n"
    if results["replicas"]:
        text += f"\n{markdown_table(REPLICA_HEADER, replica_rows(results))}\n{replica_caption(results)}\n"
    text += "".join(f"\n**{notice}**\n" for notice in results["notices"])
    content = {TABLE: text.encode()}
    if results["scaling"]:
        content["speed.png"] = speed_figure(results["scaling"], f"Medians and ranges. {what_was_timed(results)}")
    return content


def what_was_timed(results: Mapping[str, Any]) -> str:
    """Device, repeats and data in one line."""
    return f"{results['device']}; {count_of(results['repeats'], 'repeat')}; {data_words(results['data'])}"


def header(results: Mapping[str, Any]) -> list[str]:
    """The table's columns."""
    starts = ["first epoch, cold / warm (s)", "peak memory (MB)"] if results["first_epoch_seconds"] else []
    peers = [f"{PEERS[name]} / ours" for name in results["ratio_to_ours"]]
    return ["lesson", "floor (s)", "ours (s)", "ours / floor", "ours / tuned floor", *peers, "compile (s)", *starts]


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, a row a lesson."""
    cells = []
    for lesson_id, seconds in results["epoch_seconds"].items():
        peers = [ratios.get(lesson_id) for ratios in results["ratio_to_ours"].values()]
        row = [
            lesson_id,
            f"{statistics.median(results['seconds']['floor'][lesson_id]):.2f}",
            f"{seconds:.2f}",
            f"{results['ratio_to_floor'][lesson_id]:.2f}x",
            f"{results['ratio_to_tuned_floor'][lesson_id]:.2f}x",
            *("-" if ratio is None else f"{ratio:.1f}x" for ratio in peers),
            f"{results['compile_seconds'][lesson_id]:.1f}",
        ]
        if started := results["first_epoch_seconds"]:
            row.append(" / ".join(f"{started[kind][lesson_id]:.1f}" for kind in COLD_AND_WARM))
            row.append(f"{results['peak_memory_bytes'][lesson_id] / 1e6:,.0f}")
        cells.append(row)
    return cells


def caption(results: Mapping[str, Any]) -> str:
    """What was timed, and how to read the table."""
    share, found = results["config"]["peer_share"], results["environment"]
    sentences = [
        f"{what_was_timed(results)}.",
        f"Seconds are medians, of an epoch of {results['data']['epoch_length']:,} examples; ratios are medians of the "
        "ratios of times taken in the same repeat.",
        "Floor: the epoch's matrix products and a bare update in one jit; tuned: with the compiler's options of ours.",
    ]
    if results["ratio_to_ours"] and share < 1:
        sentences.append(f"The others were timed on {share:.0%} of an epoch, scaled to a whole one.")
    if "torch" in found:
        device = {"cpu": "the CPU", "cuda": "the GPU"}[found["torch_device"]]
        sentences.append(f"PyTorch {found['torch']} on {device}, {count_of(found['torch_threads'], 'thread')}.")
    if results["first_epoch_seconds"]:
        sentences.append(
            "First epoch: from the process's start until its test accuracy is shown, with an empty cache folder and "
            f"with a filled one; medians of {count_of(results['config']['start_repeats'], 'start')} each."
        )
    return " ".join(sentences)


def replica_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The second table's cells, a row a lesson and number of runs."""
    return [
        [
            entry["lesson"],
            str(entry["replicas"]),
            f"{entry['seconds']:.1f}",
            f"{entry['seconds_per_replica']:.2f}",
            f"{entry['compile_seconds']:.1f}",
            f"{entry['gigabytes_per_second']:.1f}",
            f"{entry['share_of_copy']:.0%}",
        ]
        for entry in results["replicas"]
    ]


def replica_caption(results: Mapping[str, Any]) -> str:
    """How to read the second table."""
    devices = max(entry["devices"] for entry in results["replicas"])
    not_there = " Not measured on a GPU." if results["environment"]["backend"] == "cpu" else ""
    return (
        f"{count_of(results['config']['replica_epochs'], 'epoch')} of so many runs side by side on "
        f"{count_of(devices, 'device')} ({results['device']}), without compilation and evaluation. GB/s: what the "
        f"weights' least traffic comes to on one device; a copy reaches {results['copy_gigabytes_per_second']:.0f}."
        f"{not_there}"
    )


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
