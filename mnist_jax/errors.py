"""The one exception for what a user can get wrong."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


class UserError(ValueError):
    """Something the user can put right; its message is one sentence that says what and how."""


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a `UserError` into its sentence on stderr and exit status 2, without a traceback.

    Ctrl-C and a reader of the output that is gone end with the shell's usual statuses 130 and 141. A character that the
    terminal's encoding lacks is replaced.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        yield
    except UserError as error:
        # What the user typed may hold line breaks and the like.
        sentence = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(error))
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: taking the interpreter down while XLA's threads compute ends in a segmentation fault.
        os._exit(130)
    except BrokenPipeError:
        _leave_stdout()
        sys.exit(141)
    except OSError as error:
        if error.filename is not None:  # of a file, and not foreseen
            raise
        print(f"error: The output cannot be written ({error.strerror or error}).", file=sys.stderr)
        _leave_stdout()
        sys.exit(2)


def _leave_stdout() -> None:
    """What is still to be written to stdout would fail again when the interpreter ends."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)


def first_line(error: Exception) -> str:
    """What an error of a library says, for a sentence of ours: its first line, or else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def expand_user(path: Path) -> Path:
    """The path with ~ as the home folder; `UserError` where there is none."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path} names a home folder that cannot be found; write the path out.") from error


def is_folder(path: Path) -> bool:
    """Whether it is there and a folder; `UserError` for a name that no file can have, or that may not be looked at."""
    try:
        return path.is_dir()
    except OSError as error:
        raise UserError(f"{path} cannot be looked at ({error.strerror or error}).") from error


def check_choice(what: str, value: str, choices: object) -> None:
    """Raise `UserError` unless `value` is one of `choices` (any iterable of names)."""
    names = list(choices)  # type: ignore[call-overload]
    if value not in names:
        raise UserError(f"Unknown {what} {value!r}; choose one of: {', '.join(names)}.")
