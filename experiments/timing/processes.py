"""Work in several processes at once, each with its own modules, threads and variables."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch


def in_processes(
    count: int, work: Callable[..., Iterator[None]], *arguments: Any, environment: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Let `count` processes do `next(work(*arguments))` at once, and wait for all, at each `next`.

    Args:
      count: number of processes; they end with this iterator.
      work: a module's function, which is pickled.
      *arguments: its arguments, which are pickled.
      environment: environment variables of the processes.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit this process's threads and devices, broken
    with contextlib.ExitStack() as running:
        connections = []
        with patch.dict(os.environ, environment, clear=True):
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, work, arguments), daemon=True)
                process.start()
                theirs.close()
                running.callback(process.join)
                connections.append(ours)
        for connection in connections:
            running.callback(connection.close)  # first, as it ends the processes that are then joined
        while True:
            for connection in connections:
                connection.send(None)
            for connection in connections:
                connection.recv()
            yield


def _serve(connection: Connection, work: Callable[..., Iterator[None]], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process; this one needs no traceback
    with contextlib.suppress(EOFError, BrokenPipeError):  # the other end is closed
        connection.recv()
        for _ in work(*arguments):
            connection.send(None)
            connection.recv()
