"""What a command does before its first computation."""

import contextlib
import logging
import os
import warnings

import jax

from mnist_jax.cli.arguments import JaxArguments, SharedJaxArguments
from mnist_jax.cli.program import MOST_CPU_DEVICES, jax_refusal
from mnist_jax.cli.terminal import make_console, notifier
from mnist_jax.data.cache import cache_folder
from mnist_jax.errors import UserError, reason
from mnist_jax.runs import processes
from mnist_jax.runs.provenance import cores

# What JAX's log calls accelerators that may be present -> the extra to install for them.
_EXTRAS = {"An NVIDIA GPU": "cuda13", "A Google TPU": "tpu"}


def start_jax(arguments: JaxArguments) -> None:
    """Join other processes, make each core a device, set up the compilation cache, and check that JAX computes.

    Raises:
      UserError: the other processes are not found, the CPU cannot be this many devices, or see `check_jax`.
    """
    if isinstance(arguments, SharedJaxArguments):
        if arguments.distributed:
            processes.join()
        _make_cpu_devices(arguments)
    if arguments.compilation_cache:
        _use_compilation_cache()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    check_jax()


def _make_cpu_devices(arguments: SharedJaxArguments) -> None:
    """Make as many devices as the option or JAX's variables say, otherwise one per core."""
    count = arguments.cpu_devices
    if count is None:
        requested = jax.config.values["jax_num_cpu_devices"] > 0 or "host_platform_device_count" in os.environ.get(
            "XLA_FLAGS", ""
        )
        if requested or arguments.distributed:  # other processes may use this machine's cores
            return
        count = min(cores(), MOST_CPU_DEVICES)
    if not 1 <= count <= MOST_CPU_DEVICES:
        raise UserError(f"A CPU can be 1 to {MOST_CPU_DEVICES:,} devices, not {count}.")
    with contextlib.suppress(RuntimeError):  # JAX has already started, as in a notebook: keep its devices
        jax.config.update("jax_num_cpu_devices", count)


def check_jax() -> None:
    """Find the devices and compute on one; report an accelerator that JAX is not installed for.

    Raises:
      UserError: the devices that JAX's variables name do not exist, a variable is not supported, or nothing compiles.
    """
    if jax.config.values["jax_disable_jit"]:
        raise UserError("JAX_DISABLE_JIT is set, but this program needs JAX to compile; unset it.")
    for name in ("jax_debug_nans", "jax_debug_infs"):
        if jax.config.values[name]:
            raise UserError(f"{name.upper()} is set, but this program handles runs that diverge; unset it.")
    unused: list[str] = []

    def found(record: logging.LogRecord) -> bool:
        accelerators = [name for name in _EXTRAS if record.getMessage().startswith(f"{name} may be present")]
        unused.extend(accelerators)
        return not accelerators

    log = logging.getLogger("jax._src.xla_bridge")
    log.addFilter(found)
    try:
        jax.jit(abs)(0)
    except Exception as error:  # of many kinds, but all JAX's: nothing else runs here
        nothing = f"no plugin is installed for a device that JAX_PLATFORMS names; {_package('cuda13')} has NVIDIA's"
        raise jax_refusal(reason(error) if str(error) else nothing) from error
    finally:
        log.removeFilter(found)
    for name in unused:
        notifier(make_console(stderr=True))(
            f"{name} may be present, but JAX is installed for the CPU only, on which this runs. To use it: "
            f"pip install {_package(_EXTRAS[name])}"
        )


def _package(extra: str) -> str:
    return f'"jax[{extra}]=={jax.__version__}"'


def _use_compilation_cache() -> None:
    """Use JAX's persistent cache in our folder, unless JAX's variable names another or ours cannot be written."""
    # A truncated entry is compiled again, and one that does not fit on the disk is not kept.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        folder = cache_folder() / "compiled"
        str(folder).encode()  # as XLA's C++ code does
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError, UnicodeEncodeError):
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
