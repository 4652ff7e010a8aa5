"""SIGINT and SIGTERM while XLA computes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ends_at_once(advice: str) -> Iterator[None]:
    """End the process at once on SIGINT (Ctrl-C) or SIGTERM within this block, with status 130 or 143.

    Python would wait for XLA to finish the epoch. Only the epoch under way is lost, because every file is written whole
    or not at all.

    Args:
      advice: how to continue, printed to stderr.
    """
    # Only the main thread may handle signals, and Python's prompt or a notebook must not end with what it runs.
    if threading.current_thread() is not threading.main_thread() or hasattr(sys, "ps1"):
        yield
        return
    reading, writing = os.pipe()
    if hasattr(os, "set_blocking"):  # missing on Windows before Python 3.12, and not needed there
        os.set_blocking(writing, False)

    def watch() -> None:
        while number := os.read(reading, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(OSError):
                    print(f"interrupted; {advice}", file=sys.stderr, flush=True)
                os._exit(128 + number[0])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    # The Python handlers do nothing: the C handler writes the signal's number into the pipe.
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN  # as a shell ignores it for background jobs
    }
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        watcher.join()
        os.close(reading)
