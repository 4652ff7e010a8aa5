"""Groups of options that commands are composed of; `parsed` leaves the groups' names out of the flags."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from mnist_jax.cli.terminal import load_data, notifier
from mnist_jax.data import Dataset
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.files import CHECKPOINTS
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.views.tensorboard import check_event_files

# Options of several commands, each with a default of its own.
DataDir = Annotated[
    Path | None, tyro.conf.arg(help="folder of TFDS's data", help_behavior_hint="(default: TFDS's own)")
]
Split = Annotated[
    str, tyro.conf.arg(help="slides (55,000 / 5,000 / 10,000 images) or notebooks (60,000 / none / 10,000)")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JaxArguments:
    """How JAX is started.

    Attributes:
      compilation_cache: keep compiled programs in the user's cache folder, so that the next start does not compile.
    """

    compilation_cache: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedJaxArguments(JaxArguments):
    """How JAX is started, where several processes can share the work.

    Attributes:
      distributed: this is one of several processes that share the work with `jax.distributed`.
    """

    distributed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Which digits.

    Attributes:
      data: auto, tfds, sample, or a folder with MNIST's files or TFDS data.
    """

    data: str = "auto"
    data_dir: DataDir = None

    def load(self, split: str) -> Dataset:
        """The digits; see `load_data`."""
        return load_data(self.data, split, self.data_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutArguments:
    """What is written where.

    Attributes:
      out: folder for results, new or without a run; with --resume that of the run to continue.
      resume: continue the run in the folder that --out names.
      tensorboard: write the curves for TensorBoard too, into the folder's `tensorboard`, as they grow; with --resume
        also those of runs that had ended without.
    """

    out: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: a new one in runs)")] = None
    resume: bool = False
    tensorboard: bool = False

    def check(self) -> None:
        """Raise `UserError` for what cannot be kept so, before a folder is taken."""
        check_event_files(self.tensorboard)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepingArguments(OutArguments):
    """What is written where, with checkpoints.

    Attributes:
      checkpoint_every: epochs from one checkpoint to the next.
      keep_checkpoints: how many stay of a run under way, the newest.
    """

    checkpoint_every: int = 1
    keep_checkpoints: int = 2

    def check(self) -> None:
        """Raise `UserError` for what cannot be kept so, before a folder is taken."""
        super().check()
        self.checkpoints(Path(), Console(quiet=True), keep_last=True)

    def checkpoints(self, folder: Path, console: Console, *, keep_last: bool) -> Checkpoints:
        """Those of the study in `folder`; damage is told on the console."""
        return Checkpoints(
            folder / CHECKPOINTS,
            every=self.checkpoint_every,
            keep=self.keep_checkpoints,
            keep_last=keep_last,
            notify=notifier(console),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonArguments:
    """Options shared by all comparisons of optimizers.

    Attributes:
      lesson: whose net.
      rates: number of learning rates.
      lowest: learning rate.
      highest: learning rate.
      tuning_seeds: runs of each setting.
      final_seeds: fresh runs of the chosen settings.
      epochs: of each run.
      side_by_side: runs that one device trains at a time.
      quick: a minute or two, to see how it works, with few of everything. Not the study.
    """

    lesson: str = "he"
    rates: int
    lowest: float
    highest: float = 1.0
    tuning_seeds: int
    final_seeds: int
    epochs: int = EPOCHS
    side_by_side: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: 1 on a CPU, up to 32 on a GPU or TPU)")
    ] = None
    quick: bool = False
    digits: DataArguments = DataArguments()
    keeping: KeepingArguments = KeepingArguments()
    jax: SharedJaxArguments = SharedJaxArguments()
