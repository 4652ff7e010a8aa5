r"""How fast is it, and how fast could it be?

    python experiments/speed.py --data FOLDER --out DIR

times an epoch of each lesson (split `notebooks`: 60,000 examples, batch 32) against

- `ours_per_core`: a run per core at once, each on its own device, as studies train them;
- `ours_split`: one run, its hidden units split over a device per core, as `--devices-per-run` does;
- `jax_step_loop`: a jitted step called from a Python loop with slices of shuffled arrays, as in most JAX examples;
- `torch_in_memory`: eager PyTorch on all threads, images in memory as float32;
- `torch_per_core`: the same on one thread, in a process per core;
- `torch_dataloader`: eager PyTorch as in the notebooks: PIL images converted to tensors one by one, in a DataLoader;
- `torch_compile`: `torch_in_memory` with `torch.compile` around network and loss;

and on a GPU, if `--peers` names them,

- `torch_cuda_graph`: `torch_in_memory` with a whole step captured in a CUDA graph;
- `ours_without_command_buffers`, `ours_loop_in_command_buffer`, `ours_loop_unrolled`: ours with other options of XLA
  ([variants.py](timing/variants.py)).

It also computes what share of the machine's limits that is: the rate of an epoch's matrix products relative to that of
a large product on all cores, and of its weights' traffic relative to that of a copy ([limits.py](timing/limits.py)).

All take turns: every repeat times each of them once, after a warm-up that does not count. A ratio is the median over
repeats of the ratio of times measured in the same repeat. Ours run whole epochs; the others `--peer-share` of one, and
their times are scaled to a whole. Times of several runs at once are divided by their number.

Also: seconds to compile an epoch, without JAX's caches; seconds from a process's start to the test accuracy of its
first epoch, with an empty cache folder (cold) and with what that start left there (warm), and its peak memory; how an
epoch's time grows with examples, batch size and widths; and with `--replicas 1 8 32 128` whole runs side by side.

    python experiments/speed.py --gpu-study --data FOLDER --out DIR

is for a GPU or TPU. It times lessons he and adam against all of these, with 1, 2, 4, ... 1,024 runs side by side. It
also measures how long one run trains until 97 and 98 % test accuracy (without compilation and evaluation) and how many
nets are trained per second, and chooses how many runs to train side by side: the smallest number that fits and has
95 % of the best throughput ([gpu_study.py](timing/gpu_study.py)). A number of runs that does not fit in the device's
memory ends its lesson's series, not the study. Every option can still be given; peers that fail can be left out with
`--peers`. On a CPU it runs on a small scale, with up to 4 runs side by side.

Written to DIR: `speed.json` (every time), `README.md`, `speed.png`. The times are worthless if the machine is busy with
something else, PyTorch's most of all: its threads wait for each other many times per step.

Answer, on two CPU cores (AMD EPYC): an epoch takes 0.64 to 0.80 seconds, which is 38 to 47 % of the rate of a large
matrix product. With a run per core it takes 0.49 to 0.66 seconds per run; a run that is split over the cores takes 1.03
to 1.12 times as long. The step loop takes 1.50 to 1.62 times as long, PyTorch 2.68 to 4.70 times in memory
(`torch.compile` does not help) and 5.27 to 7.00 times behind a DataLoader; a PyTorch process per core 2.83 to 7.52
times as long as our run per core. Recorded in experiments/results/speed by

    python experiments/speed.py --data data/mnist --peer-share 0.1 --out experiments/results/speed

On one NVIDIA H200 an epoch of lesson adam takes 0.127 seconds; the step loop takes 7.5 times as long, PyTorch in memory
32.5 times, and 3.9 times with a whole step in a CUDA graph. There 512 nets side by side train 12 times as many nets per
second as one. One run has 97 % of the test images right after 0.39 seconds of training, 98 % after 1.52 seconds.
Recorded in experiments/results/speed_gpu by

    python experiments/speed.py --gpu-study --data data/mnist --lessons adam --repeats 3 --start-repeats 0 \
        --no-scaling --peers jax_step_loop torch_in_memory torch_cuda_graph --replicas 1 8 32 128 512 \
        --replica-epochs 1 --out experiments/results/speed_gpu
"""

from mnist_jax.cli.program import exit_on_user_error, guard

if __name__ == "__main__":
    guard()  # before the imports, which may fail too

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Mapping
from typing import Annotated, Any

import jax
from timing.epochs import epoch_times
from timing.gpu_study import STUDIED, defaults, study_results
from timing.limits import limits, products
from timing.peers import PeerName, find_peers
from timing.scaling import scaling_times
from timing.side_by_side import side_by_side_times
from timing.starts import data_options, start_times
from timing.tables import report, tables
from timing.variants import find_variants

from mnist_jax.cli.arguments import DataArguments, LessonId, OutFolder, SharedJaxArguments, default_is, parsed
from mnist_jax.cli.start import start_jax
from mnist_jax.cli.terminal import make_console, notifier, table, with_time_left
from mnist_jax.data import Dataset
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS
from mnist_jax.runs.files import SPEED, make_folder, write_files, write_results
from mnist_jax.runs.provenance import command_line, environment


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Time an epoch of each lesson against other ways to train it and against the machine's limits.

    Attributes:
      lessons: lessons to time.
      repeats: number of repeats of everything but starts and runs side by side; tables show their medians.
      peers: other ways to train.
      peer_share: share of an epoch for which peers are timed; above 0, at most 1.
      start_repeats: number of cold and warm starts of each lesson; 0 for none.
      scaling: also vary examples, batch size and widths of mlp and adam, if they are among the lessons.
      replicas: numbers of runs to time side by side.
      replica_epochs: number of epochs of each such run.
      gpu_study: measure how fast a GPU or TPU is, and how many runs it should train side by side.
      out: folder for results, new or without a run.
    """

    lessons: Annotated[tuple[LessonId, ...] | None, default_is(f"all; of the study {' '.join(STUDIED)}")] = None
    repeats: Annotated[int | None, default_is("5; of the study on a CPU 3")] = None
    peers: Annotated[tuple[PeerName, ...] | None, default_is("the first seven; of the study on a GPU all")] = None
    peer_share: Annotated[float | None, default_is("0.2; of the study 1, on a CPU 0.1")] = None
    start_repeats: int = 3
    scaling: bool = True
    replicas: Annotated[tuple[int, ...] | None, default_is("none; of the study 1 2 4 ... 1024, on a CPU 1 2 4")] = None
    replica_epochs: Annotated[int | None, default_is("10; of the study 3, on a CPU 1")] = None
    gpu_study: bool = False
    digits: DataArguments = DataArguments()
    out: OutFolder = None


def run(arguments: Arguments) -> None:
    """Measure, print the tables, write the files."""
    check(arguments)
    data = arguments.digits.load("notebooks")
    folder = make_folder(arguments.out, "speed", SPEED)
    try:
        results = measure(arguments, data)
    except BaseException:  # Ctrl-C too: free the folder
        (folder / SPEED).unlink()
        raise
    write_results(folder, results, SPEED)
    written = [folder / SPEED, *write_files(folder, report(results))]
    console = make_console()
    for title, rows, caption in tables(results):
        console.print(table(title, list(rows[0]), [list(row.values()) for row in rows]))
        console.print(caption, soft_wrap=True)
    for notice in results["notices"]:
        notifier(console)(notice)
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


def measure(arguments: Arguments, data: Dataset) -> dict[str, Any]:
    """Measure all times, as speed.json holds them."""
    study = arguments.gpu_study
    settings = completed(dataclasses.asdict(arguments), {"lessons": STUDIED if study else tuple(LESSONS)})
    lessons = {lesson_id: lesson for lesson_id, lesson in LESSONS.items() if lesson_id in settings["lessons"]}
    progress = functools.partial(with_time_left, console=make_console())
    load_average = os.getloadavg()[0]
    # First, while this process is small and holds no accelerator: a new process counts its parent's peak memory as
    # its own, but will load for itself all that is loaded here so far.
    options = data_options(data, arguments.digits)
    starts = start_times(lessons, options, arguments.start_repeats, progress)
    start_jax(SharedJaxArguments())
    settings = completed(settings, defaults(jax.default_backend(), gpu_study=study))
    repeats = settings["repeats"]
    config = json.loads(json.dumps(settings, default=str))
    notices: list[str] = []
    if load_average > (os.cpu_count() or 1) / 4:
        notices.append(f"The machine was busy (load average {load_average:.1f}): do not trust these times.")
    others, torch_environment = find_peers(settings["peers"], data.train, notices.append)
    peers = {**find_variants(settings["peers"], data, notices.append), **others}
    epochs = epoch_times(
        lessons, data, repeats, peers, settings["peer_share"], progress, yardsticks={"product": products()}
    )
    scaling = scaling_times(lessons, data, repeats, progress) if arguments.scaling else {}
    together = side_by_side_times(
        lessons, data, settings["replicas"], settings["replica_epochs"], progress, notices.append
    )
    return {
        "device": environment()["device"],
        "repeats": repeats,
        "data": data.describe(),
        "config": {"command": command_line("python experiments/speed.py"), **config.pop("digits"), **config},
        "environment": {**environment(), "load_average": load_average, **torch_environment},
        "notices": notices,
        **epochs,
        "limits": limits(lessons, data, min(itertools.chain(*epochs["seconds"]["product"].values()))),
        **starts,
        "scaling": scaling,
        "replicas": together,
        **({"study": study_results(lessons, data, together, progress)} if study else {}),
    }


def completed(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with these values where the user gave none."""
    return {**settings, **{name: value for name, value in values.items() if settings[name] is None}}


def check(arguments: Arguments) -> None:
    """Raise `UserError` for invalid arguments, and on systems where memory cannot be measured."""
    if not hasattr(os, "wait4"):  # nor is there a load average
        raise UserError("Windows does not report a process's peak memory; run this on Linux or macOS.")
    if arguments.lessons == ():
        raise UserError(f"At least one lesson is needed: {', '.join(LESSONS)}.")
    if arguments.peer_share is not None and not 0 < arguments.peer_share <= 1:
        raise UserError(f"The peers' share of an epoch must be above 0 and at most 1, not {arguments.peer_share}.")
    numbers = [arguments.repeats, arguments.replica_epochs, *(arguments.replicas or ())]
    if (least := min((number for number in numbers if number is not None), default=1)) < 1:
        raise UserError(f"--repeats, --replicas and --replica-epochs take numbers of at least 1, not {least}.")
    if arguments.start_repeats < 0:
        raise UserError(f"--start-repeats must be at least 0, not {arguments.start_repeats}.")


def main() -> None:
    """Entry point."""
    with exit_on_user_error():
        run(parsed(Arguments, __doc__))


if __name__ == "__main__":
    main()
