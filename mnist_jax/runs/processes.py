"""Several processes as one program, with `jax.distributed`: who writes, and how an error in one reaches all.

Every process runs the same program on its own devices and gets all results; the first one alone writes and prints.
"""

import json
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnist_jax.errors import UserError, reason

T = TypeVar("T")


def join() -> None:
    """Join the other processes, before any computation.

    They are found as JAX finds them (SLURM, Open MPI, Kubernetes, TPU pods), or by the variables
    JAX_COORDINATOR_ADDRESS (HOST:PORT of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      UserError: they are not found, or a variable is invalid.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address is not None and not re.fullmatch(r".+:\d+", address):
        raise UserError(f"JAX_COORDINATOR_ADDRESS must be HOST:PORT, not {address!r}.")
    # With this service JAX would catch SIGTERM, and the process would continue.
    jax.config.update("jax_enable_preemption_service", False)
    processes, own = _number("JAX_NUM_PROCESSES"), _number("JAX_PROCESS_ID")
    try:
        jax.distributed.initialize(
            num_processes=processes,
            process_id=own,
            # JAX would listen on all of the machine's addresses.
            coordinator_bind_address=address if (address or "").startswith(("127.", "localhost:", "[::1]:")) else None,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"The other processes were not found ({reason(error)}); start this in a cluster that JAX knows, or set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."
        ) from error


def is_first() -> bool:
    """Whether this process writes and prints."""
    # jax.process_index() would choose the backend, too early for `join`.
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_first(function: Callable[[], T]) -> T:
    """Call `function` in the first process, and return its result, a value of JSON, in all of them.

    Raises:
      UserError: `function` raised one in the first process.
    """
    if not _several():
        return function()
    found: dict[str, Any] = {}
    if is_first():
        try:
            found = {"value": function()}
        except UserError as error:
            found = {"error": str(error)}
    content = np.frombuffer(json.dumps(found).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    content = multihost_utils.broadcast_one_to_all(np.resize(content, length))
    found = json.loads(bytes(np.asarray(content)))
    if "error" in found:
        raise UserError(found["error"])
    return found["value"]


def in_all(function: Callable[[], T]) -> T:
    """Call `function` in every process; if it raises a `UserError` in one of them, all raise one.

    Raises:
      UserError: this process's own, or one that names another process that had an error.
    """
    if not _several():
        return function()
    error: UserError | None = None
    try:
        value = function()
    except UserError as caught:
        error = caught
    failed = np.flatnonzero(multihost_utils.process_allgather(np.bool_(error is not None)))
    if error is not None:
        raise error
    if failed.size:
        raise UserError(f"Process {failed[0]} ended with an error; its output says which.")
    return value


def check_same(value: T, refusal: Callable[[T], str]) -> None:
    """Raise `UserError` in all processes unless they all have the same `value`, a value of JSON.

    Args:
      value: this process's value.
      refusal: makes the error's message from the first process's value, if this one's differs.
    """
    first = from_first(lambda: value)

    def check() -> None:
        if value != first:
            raise UserError(refusal(first))

    in_all(check)


def _several() -> bool:
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise UserError(f"{variable} must be a whole number, not {text!r}.")
    return None if text is None else int(text)
