"""Work for other processes, which import it by name."""

import os
import time
from collections.abc import Iterator
from pathlib import Path


def note(folder: str, together: int, fails: bool) -> Iterator[None]:
    """Leave a file for each turn, with the process's number and a variable in its name, and wait for those of others.

    Fail in the second turn if asked to, or if the others do not come.
    """
    for turn in range(2):
        if fails and turn:
            raise ValueError("as it must")
        Path(folder, f"{turn}-{os.getpid()}-{os.environ.get('COLOUR')}").touch()
        began = time.monotonic()
        while len(list(Path(folder).glob(f"{turn}-*"))) < together:
            assert time.monotonic() - began < 10, "the others do not work at the same time"
            time.sleep(0.01)
        yield
