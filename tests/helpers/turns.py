"""Work for other processes, which import it by name."""

import os
from collections.abc import Iterator
from pathlib import Path


def note(folder: str, fails: bool) -> Iterator[None]:
    """Leave a file for each turn, with the process's number and a variable in its name; fail in the second if told."""
    for turn in range(2):
        if fails and turn:
            raise ValueError("as it must")
        Path(folder, f"{turn}-{os.getpid()}-{os.environ.get('COLOUR')}").touch()
        yield
