"""How a program begins and ends; this module imports nothing slow, so that later imports are guarded, too."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType

from mnist_jax.errors import UserError, reason

MOST_CPU_DEVICES = 1024  # XLA needs minutes for some thousands


def guard() -> None:
    """Begin a program: errors in its imports, too, end as in `exit_on_user_error`.

    Raises:
      UserError: JAX or XLA does not understand the variables of the environment.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: the next file opened, say a checkpoint, would take its place
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    sys.excepthook = _end
    sys.unraisablehook = _swallowed
    os.environ.pop("MPLBACKEND", None)  # figures need none, and Matplotlib does not import with an unknown one
    check_variables()


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a `UserError` into its message on stderr and exit status 2, without a traceback.

    Ctrl-C and a closed pipe end with the shell's usual statuses, 130 and 141. Characters that the terminal's encoding
    lacks are replaced.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in a notebook it is something else
            stream.reconfigure(errors="replace")
    try:
        try:
            yield
        finally:
            if sys.stdout is not None and not isinstance(sys.exception(), UserError):
                sys.stdout.flush()  # while an error can still be caught
    except UserError as error:
        # What the user typed may contain line breaks and other control characters.
        sentence = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(error))
        _say(f"error: {sentence}")
        _can_flush()
        sys.exit(2)
    except KeyboardInterrupt:
        if hasattr(sys, "ps1"):  # Python's prompt or a notebook must continue
            raise
        _say("interrupted")
        # Not sys.exit: shutting down the interpreter while XLA's threads compute ends in a segmentation fault.
        os._exit(130)
    except OSError as error:
        if _can_flush(line="\n"):
            raise
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        _say(f"error: The output cannot be written ({reason(error)}).")
        sys.exit(2)


def jax_refusal(says: str) -> UserError:
    """The error for JAX's message at start-up, with the variables that may have caused it."""
    innocent = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_")
    settings = [
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith(("JAX_", "XLA_")) and not name.startswith(innocent)
    ]
    advice = f"correct or unset {' or '.join(settings)}" if settings else "its installation does not work here"
    return UserError(f"JAX does not start ({says}); {advice}.")


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: any error that `exit_on_user_error` does not handle is a bug and keeps its traceback."""
    try:
        with exit_on_user_error():
            raise error
    except Exception:
        sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _swallowed(what: "sys.UnraisableHookArgs") -> None:
    """For `sys.unraisablehook`: treat Ctrl-C in a C callback, such as JAX's for the garbage collector, as Ctrl-C."""
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)
    elif not hasattr(sys, "ps1"):
        _say("interrupted")
        os._exit(130)


def check_variables() -> None:
    """Raise `UserError` for environment variables that keep JAX from being imported or make XLA abort the process."""
    flags = os.environ.get("XLA_FLAGS", "")
    devices = [*re.findall(r"host_platform_device_count=(\d+)", flags), os.environ.get("JAX_NUM_CPU_DEVICES", "")]
    if any(count.isdecimal() and int(count[:9]) > MOST_CPU_DEVICES for count in devices):
        raise UserError(f"JAX_NUM_CPU_DEVICES and XLA_FLAGS can make at most {MOST_CPU_DEVICES:,} devices of a CPU.")
    if flags:
        code = "from jaxlib.xla_client import CompileOptions; CompileOptions()"
        tried = subprocess.run(
            [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, errors="replace", check=False
        )
        if fatal := re.search(r"^[EF]\d+ .*?\] (.*)", tried.stderr, re.MULTILINE):
            raise jax_refusal(fatal[1].strip().rstrip("."))
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise jax_refusal(reason(error)) from error


def _say(sentence: str) -> None:
    """Print to stderr, which may be on a full disk as well."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        _drop(2)


def _can_flush(line: str = "") -> bool:
    """Whether stdout accepts what was printed, and `line`."""
    try:
        print(end=line, flush=True)
    except OSError:
        _drop(1)
        return False
    return True


def _drop(number: int) -> None:
    """Discard what is left in a stream's buffer: writing it would fail again when the interpreter ends."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), number)
