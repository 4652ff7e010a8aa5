"""The one exception for what a user can get wrong."""

import contextlib
import sys
from collections.abc import Iterator


class UserError(ValueError):
    """Something the user can put right; its message is one sentence that says what and how."""


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a `UserError` into its sentence on stderr and exit status 2, without a traceback.

    Ctrl-C ends with the shell's usual status 130.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def check_choice(what: str, value: str, choices: object) -> None:
    """Raise `UserError` unless `value` is one of `choices` (any iterable of names)."""
    names = list(choices)  # type: ignore[call-overload]
    if value not in names:
        raise UserError(f"Unknown {what} {value!r}; choose one of: {', '.join(names)}.")
