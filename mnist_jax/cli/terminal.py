"""What a person sees in the terminal: progress and tables."""

import contextlib
import functools
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from mnist_jax import data
from mnist_jax.data import Dataset
from mnist_jax.runs.processes import check_same, in_all, is_first
from mnist_jax.runs.records import Epoch

# For a pipe or a file, which has no width: wide enough for our tables.
_PIPE_WIDTH = 140


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error again: rich would exit with status 1."""
        raise


def make_console(*, stderr: bool = False) -> Console:
    """A rich console, plain and wide if the output is not a terminal; only the first process prints."""
    quiet = not is_first()
    # No markup: a user's path could be mistaken for it.
    options: dict[str, Any] = {"stderr": stderr, "highlight": False, "markup": False, "emoji": False, "quiet": quiet}
    console = _Console(**options)
    return console if console.is_terminal else _Console(**options, width=_PIPE_WIDTH)


def notifier(console: Console) -> Callable[[str], None]:
    """A function that prints a message in bold red."""
    return functools.partial(console.print, style="bold red", soft_wrap=True)


def runnable(command: str) -> str:
    """A command of `python` or `mnist-jax` as this shell finds it: by its path if our environment is not activated."""
    program, _, arguments = command.partition(" ")
    ours = Path(sys.executable).parent / program
    if shutil.which(program) == str(ours) or not ours.exists():
        return command
    with contextlib.suppress(ValueError):
        ours = ours.relative_to(Path.cwd())
    return f"{shlex.quote(str(ours))} {arguments}"


def load_data(source: str, split: str, data_dir: Path | None) -> Dataset:
    """Load the data, showing progress and any notice.

    Raises:
      UserError: see `data.load`; or processes find different digits.
    """
    with make_console().status("loading the digits; the first time takes longer"):
        loaded = in_all(lambda: data.load(source, split, data_dir))
    check_same(
        loaded.sha256,
        lambda _: f"This process found other digits than the first one ({loaded.name}); name the same --data.",
    )
    show_notice(loaded.notice)
    return loaded


def show_notice(notice: str) -> None:
    """Show a notice, if there is one, in a red box."""
    if notice:
        make_console(stderr=True).print(Panel(Text(notice), title="NOTICE", border_style="bold red"))


class EpochProgress:
    """One line per epoch with its results and the time left; in a terminal, a bar below them.

    Use it as a context manager.

    Args:
      console: console to print to.
      data: training, validation and test data.
      runs: number of runs.
      epochs: number of epochs of each run, unless it diverges.
    """

    def __init__(self, console: Console, data: Dataset, *, runs: int, epochs: int) -> None:
        self._data = data
        self._epochs = epochs
        self._total = total = runs * epochs
        self._done = 0
        self._began = time.monotonic()
        self._console = console
        self._bar = Progress(
            TextColumn("epochs"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("epochs", total=total, left="compiling")

    def __enter__(self) -> "EpochProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(self, label: str, epoch: Epoch, *, line: bool = True) -> None:
        """Move the bar, and print the epoch's line unless `line` is False."""
        self._done += 1
        if epoch.diverged:
            self._total -= self._epochs - epoch.number
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        test_accuracy = epoch.test_correct / self._data.test.size
        validation = ""
        if epoch.validation_correct is not None and self._data.validation is not None:
            validation = f"  validation accuracy {epoch.validation_correct / self._data.validation.size:7.2%}"
        if line:
            self._console.print(
                f"{label:<10}  seed {epoch.run.seed}  epoch {epoch.number:>2}  train loss {epoch.train_loss:.4f}"
                f"{validation}  test accuracy {test_accuracy:7.2%}  {epoch.seconds:.1f} s  "
                f"({_duration(left)} left)",
                soft_wrap=True,
            )
        if epoch.diverged:
            self._console.print(
                f"{label}, seed {epoch.run.seed}: diverged: the loss became non-finite in epoch {epoch.number}. A "
                "lower learning rate usually helps.",
                style="bold red",
                soft_wrap=True,
            )
        self._bar.update(self._task, total=self._total, completed=self._done, left=f"{_duration(left)} left")
        if self._done == self._total:
            self._bar.stop()  # else it would keep drawing while something is timed


def with_time_left(parts: Sequence[Sequence[object]], console: Console) -> Iterator[Any]:
    """Yield the parts of a study, printing a line with the time left for each that is done."""
    began = time.monotonic()
    for done, part in enumerate(parts, start=1):
        yield part
        left = (time.monotonic() - began) / done * (len(parts) - done)
        console.print(f"{', '.join(map(str, part))}  ({_duration(left)} left)", soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A rich table of plain cells."""
    made = Table(title=title, title_justify="left")
    for column in header:
        made.add_column(column)
    for row in rows:
        made.add_row(*row)
    return made
