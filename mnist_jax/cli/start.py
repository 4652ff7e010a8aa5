"""What a command does before its first computation."""

import os
import warnings

import jax

from mnist_jax.cli.arguments import JaxArguments, SharedJaxArguments
from mnist_jax.cli.program import jax_refusal
from mnist_jax.data.cache import cache_folder
from mnist_jax.errors import UserError, reason
from mnist_jax.runs import processes


def start_jax(arguments: JaxArguments) -> None:
    """Join other processes, find compiled programs, and check that JAX computes.

    Raises:
      UserError: the other processes are not found, or as `check_jax`.
    """
    if isinstance(arguments, SharedJaxArguments) and arguments.distributed:
        processes.join()
    if arguments.compilation_cache:
        _use_compilation_cache()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    check_jax()


def check_jax() -> None:
    """Find the devices and compute on one.

    Raises:
      UserError: there are none as JAX's variables want them, or nothing can be compiled.
    """
    if jax.config.values["jax_disable_jit"]:
        raise UserError("JAX_DISABLE_JIT is set, but this program needs JAX to compile; unset it.")
    for name in ("jax_debug_nans", "jax_debug_infs"):
        if jax.config.values[name]:
            raise UserError(f"{name.upper()} is set, but here a run that diverges ends by itself; unset it.")
    try:
        jax.jit(abs)(0)
    except Exception as error:  # of many kinds, and none of this program: it is JAX alone that runs here
        says = reason(error) if str(error) else "a device that JAX_PLATFORMS names has no plugin installed"
        raise jax_refusal(says) from error


def _use_compilation_cache() -> None:
    """JAX's persistent cache, unless its own variable names a folder or the folder cannot be written."""
    # An entry that was cut short is compiled again, and one that does not fit on the disk is not kept.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        folder = cache_folder() / "compiled"
        str(folder).encode()  # as XLA's C++ will
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, UnicodeEncodeError):
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
