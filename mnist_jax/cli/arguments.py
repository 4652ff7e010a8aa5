"""Options that commands share."""

import dataclasses
from pathlib import Path

from rich.console import Console

from mnist_jax.cli.terminal import notifier
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.files import CHECKPOINTS
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.views.tensorboard import check_event_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class JaxArguments:
    """Options shared by all commands that compute.

    Attributes:
      compilation_cache: keep compiled programs in the user's cache folder, so that the next start does not compile.
    """

    compilation_cache: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributedArguments(JaxArguments):
    """The same, of a command that several processes can share.

    Attributes:
      distributed: this is one of several processes that share the work with `jax.distributed`.
    """

    distributed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunArguments(DistributedArguments):
    """Options shared by all commands that train and keep their runs.

    Attributes:
      resume: continue the run in the folder that --out names.
      checkpoint_every: epochs from one checkpoint to the next.
      keep_checkpoints: how many stay of a run under way, the newest.
      tensorboard: write the curves for TensorBoard too, into the folder's `tensorboard`, each epoch as it ends; with
        --resume also those of runs that had ended without.
    """

    resume: bool = False
    checkpoint_every: int = 1
    keep_checkpoints: int = 2
    tensorboard: bool = False

    def check(self) -> None:
        """Raise `UserError` for what cannot be kept so, before a folder is taken."""
        self.checkpoints(Path(), Console(quiet=True), keep_last=True)
        check_event_files(self.tensorboard)

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
class ComparisonArguments(RunArguments):
    """Options shared by all comparisons of optimizers.

    Attributes:
      lesson: whose net.
      rates: how many learning rates.
      lowest: learning rate.
      highest: learning rate.
      tuning_seeds: runs of each setting.
      final_seeds: fresh runs of the chosen settings.
      epochs: of each run.
      data: auto, tfds, sample, or a folder with MNIST's files or TFDS data.
      data_dir: TFDS's folder, if not its standard one.
      side_by_side: runs that one device trains at a time; by default 1 on a CPU, up to 32 on a GPU or TPU.
      quick: short epochs, and said so.
      out: folder for results, new or of this study interrupted; by default a new one in runs.
    """

    lesson: str = "he"
    rates: int
    lowest: float
    highest: float = 1.0
    tuning_seeds: int
    final_seeds: int
    epochs: int = EPOCHS
    data: str = "auto"
    data_dir: Path | None = None
    side_by_side: int | None = None
    quick: bool = False
    out: Path | None = None
