"""The exception for mistakes of the user."""

from pathlib import Path


class UserError(ValueError):
    """Something the user can fix; its message says what is wrong and what to do."""


def reason(error: BaseException) -> str:
    """What to quote of an error in our own message: its strerror, the first line of its message, or its type."""
    says = getattr(error, "strerror", None) or str(error)
    line = (says.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)  # from damaged files


def expand_user(path: Path) -> Path:
    """Expand ~ in a path; raise `UserError` if there is no home folder."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path} names a home folder that cannot be found; write the path out.") from error


def is_folder(path: Path) -> bool:
    """Whether the path is an existing folder; raise `UserError` if it cannot be accessed."""
    try:
        return path.is_dir()
    except OSError as error:
        raise UserError(f"{path} cannot be accessed ({reason(error)}).") from error


def check_choice(what: str, value: str, choices: object) -> None:
    """Raise `UserError` unless `value` is one of `choices` (any iterable of names)."""
    names = list(choices)  # type: ignore[call-overload]
    if value not in names:
        raise UserError(f"Unknown {what} {value!r}; choose one of: {', '.join(names)}.")
