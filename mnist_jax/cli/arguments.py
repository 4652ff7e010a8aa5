"""What the user types: the groups of options that commands are composed of, and how they are parsed."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, Union

import tyro
from rich.console import Console

from mnist_jax.cli.terminal import load_data, notifier
from mnist_jax.data import Dataset, Split
from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS
from mnist_jax.optimizers import OPTIMIZERS
from mnist_jax.runs.checkpoints import Checkpoints
from mnist_jax.runs.files import CHECKPOINTS
from mnist_jax.views.tensorboard import check_event_files

T = TypeVar("T")

if TYPE_CHECKING:
    LessonId: TypeAlias = str
else:
    LessonId = Literal[tuple(LESSONS)]

# For the help.
OPTIMIZER_NAMES = (
    f"one of {', '.join(OPTIMIZERS)}, where `contrib.` may be left out; or MODULE:FUNCTION, your own, with optax's "
    "calling convention"
)


def default_is(words: str) -> Any:
    """For `Annotated`: what the help shows for a default of None."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {words})")


# Options of several commands.
OutFolder = Annotated[Path | None, default_is("a new one in runs")]
DataDir = Annotated[Path | None, tyro.conf.arg(help="folder of TFDS's data"), default_is("TFDS's own")]
SplitOption = Annotated[
    Split, tyro.conf.arg(help="55,000 / 5,000 / 10,000 images to train, validate and test, or 60,000 / none / 10,000")
]
OptimizersOption = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="OPTIMIZER ...",
        help="optimizers to compare, each a name, or in quotes with its settings, such as `sgd momentum=0.9 "
        f"schedule=cosine chain=clip_by_global_norm 1.0`: {OPTIMIZER_NAMES}",
    ),
]


def subcommands(functions: Mapping[str, Callable[..., T]]) -> type[T]:
    """For `parsed`: a command line that names one of these functions and gives its arguments."""
    kinds = [Annotated[Any, tyro.conf.subcommand(name, constructor=kind)] for name, kind in functions.items()]
    return Union[tuple(kinds)]  # type: ignore[return-value] # noqa: UP007


def parsed(kind: type[T], description: str | None, prog: str | None = None) -> T:
    """Parse the user's arguments; for invalid ones tyro prints a message to stderr and exits with status 2.

    Args:
      kind: a dataclass of options and groups of options, or `subcommands`.
      description: begins the help.
      prog: the program's name.

    Raises:
      UserError: more invalid arguments than tyro can name, or an option given twice that takes any number of words.
    """
    for flag in ("--chain", "--hyperparameters", "--optimizers", "--schedule"):  # for others the last one counts
        if sum(word.partition("=")[0] == flag for word in sys.argv) > 1:
            raise UserError(f"{flag} is given twice; give all its words after one {flag}.")
    markers = (
        tyro.conf.OmitArgPrefixes,  # no names of groups in the flags
        tyro.conf.CascadeSubcommandArgs,  # a command's flags may stand before or after a lesson's
        tyro.conf.DisallowNone,
    )
    try:
        return tyro.cli(kind, description=description, prog=prog, config=markers)
    except RecursionError as error:
        raise UserError("Too many arguments are not understood; --help lists the valid ones.") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class JaxArguments:
    """How JAX is started.

    Attributes:
      compilation_cache: keep compiled programs in the user's cache folder, so that later starts need not compile.
    """

    compilation_cache: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedJaxArguments(JaxArguments):
    """How JAX is started, possibly in several processes.

    Attributes:
      distributed: whether this process is one of several that share the work through `jax.distributed`.
      cpu_devices: number of devices that the CPU counts as; each trains runs of its own.
    """

    distributed: bool = False
    cpu_devices: Annotated[int | None, default_is("its cores; 1 if distributed")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataArguments:
    """Source of the digits.

    Attributes:
      data: auto for TFDS's MNIST if available, else the sample; a file or folder in any form of docs/data.md; or a
        data set of TFDS, such as tfds:fashion_mnist.
    """

    data: Annotated[str, tyro.conf.arg(metavar="auto|tfds|tfds:NAME|sample|PATH")] = "auto"
    data_dir: DataDir = None

    def load(self, split: Split) -> Dataset:
        """The digits; see `load_data`."""
        return load_data(self.data, split, self.data_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutArguments:
    """Where results are written.

    Attributes:
      out: folder for results, new or without a run; with --resume the folder of the run to continue.
      resume: continue the run in the folder that --out names.
      tensorboard: write the curves for TensorBoard, too, into the folder's `tensorboard`, as they grow; with --resume
        also those of runs finished earlier.
    """

    out: OutFolder = None
    resume: bool = False
    tensorboard: bool = False

    def check(self) -> None:
        """Raise `UserError` for invalid options, before a folder is claimed."""
        check_event_files(self.tensorboard)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepingArguments(OutArguments):
    """Where results and checkpoints are written.

    Attributes:
      checkpoint_every: number of epochs from one checkpoint to the next.
      keep_checkpoints: number of newest checkpoints kept per run.
    """

    checkpoint_every: int = 1
    keep_checkpoints: int = 2

    def check(self) -> None:
        """Raise `UserError` for invalid options, before a folder is claimed."""
        super().check()
        self.checkpoints(Path(), Console(quiet=True), keep_last=True)

    def checkpoints(self, folder: Path, console: Console, *, keep_last: bool) -> Checkpoints:
        """The checkpoints of the study in `folder`; damage is reported on the console."""
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
      trials: number of settings drawn from each optimizer's space, a power of 2, in addition to the course's or
        optax's own.
      final_seeds: number of fresh runs of the chosen settings.
      epochs: number of epochs of each run.
      side_by_side: number of runs that one device trains at a time.
      quick: few runs and short epochs, in under 3 minutes, to see how it works; not the study.
    """

    trials: Annotated[int | None, default_is("32, or 4 with --quick")] = None
    final_seeds: Annotated[int | None, default_is("20, or 3 with --quick")] = None
    epochs: Annotated[int | None, default_is("5, or 2 with --quick")] = None
    side_by_side: Annotated[int | None, default_is("1 on a CPU, up to 128 on a GPU, 32 on a TPU")] = None
    quick: bool = False
    digits: DataArguments = DataArguments()
    keeping: KeepingArguments = KeepingArguments()
    jax: SharedJaxArguments = SharedJaxArguments()

    def counts(self) -> tuple[int, int, int]:
        """Numbers of trials, of final seeds and of epochs."""
        usual = (4, 3, 2) if self.quick else (32, 20, 5)
        typed = (self.trials, self.final_seeds, self.epochs)
        trials, seeds, epochs = (default if said is None else said for said, default in zip(typed, usual, strict=True))
        return trials, seeds, epochs
