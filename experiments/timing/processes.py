"""Work in other processes, all at once, each with modules, threads and variables of its own."""

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
    """Let so many processes do `next(work(*arguments))` at once, and wait for all, for each `next`.

    Args:
      count: number of processes; they end with this iterator.
      work: a function of a module; it is pickled.
      *arguments: its arguments, pickled too.
      environment: the processes' variables.
    """
    context = multiprocessing.get_context("spawn")  # a fork would have this process's threads and devices, broken
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
            running.callback(connection.close)  # before the processes are waited for, which end by it
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
