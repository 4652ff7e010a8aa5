"""How programs begin and end: variables, streams, Ctrl-C, errors of ours, notebooks."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import nbformat
import pytest
from helpers import ROOT, script
from nbformat.v4 import new_code_cell, new_notebook

from mnist_jax import UserError
from mnist_jax.cli import program
from mnist_jax.cli.interrupts import ends_at_once
from mnist_jax.cli.program import exit_on_user_error
from mnist_jax.cli.start import check_jax

SCRIPTS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "experiments").glob("*.py"))]
ENDING = (
    "from mnist_jax.cli.program import exit_on_user_error\nfrom mnist_jax import errors\nwith exit_on_user_error():\n "
)


def run(*arguments, shell="", **variables):
    """Run a process with the tests' compilation cache, but not their JAX settings; `shell` redirects its streams."""
    strict = [name for name in os.environ if name.startswith(("JAX_", "XLA_")) and "CACHE" not in name]
    environment = {name: value for name, value in os.environ.items() if name not in strict} | variables
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def refused(done):
    """The message of a program that ended with status 2."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_NUM_CPU_DEVICES", "two"),
        ("JAX_ENABLE_X64", "maybe"),
        ("JAX_DEFAULT_PRNG_IMPL", "x"),
        ("XLA_FLAGS", "--x"),
        pytest.param("XLA_FLAGS", "\udcff", marks=pytest.mark.skipif(sys.platform != "linux", reason="bytes")),
    ],
)
def test_invalid_jax_variable_is_refused(name, value):
    assert f" {name}={ascii(value)[1:-1]}." in refused(run("-m", "mnist_jax", "lessons", **{name: value}))


@pytest.mark.parametrize("flags", ["--nonsense", "nowhere", "--xla_backend_optimization_level=x"])
def test_flags_that_would_abort_xla_are_refused(monkeypatch, flags):
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(UserError, match=f"correct or unset .*XLA_FLAGS={flags}"):
        program.check_variables()


@pytest.mark.parametrize(
    ("name", "value"),
    [("JAX_NUM_CPU_DEVICES", "1000000"), ("XLA_FLAGS", f"--xla_force_host_platform_device_count={'9' * 5000}")],
)
def test_too_many_devices_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="at most 1,024"):
        program.check_variables()


@pytest.mark.parametrize("script", [["-m", "mnist_jax", "lessons"], *([script] for script in SCRIPTS)])
def test_every_program_checks_variables_before_imports(script):
    assert "at most 1,024 devices" in refused(run(*script, JAX_NUM_CPU_DEVICES="1000000"))


EVERY_COMMAND = """
import contextlib, importlib, shlex, sys
from mnist_jax.cli import commands as cli
sys.path.insert(0, "experiments")
for line in sys.argv[1:]:
    name, *sys.argv[1:] = shlex.split(line)
    main = cli.main if name == "mnist-jax" else importlib.import_module(name).main
    with contextlib.suppress(SystemExit):
        main()
        print(line, "worked", file=sys.stderr)
"""


def test_missing_device_is_refused_by_every_command(toy_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    computing = [
        f"mnist-jax train mlp --data {toy_folder} --out {out}/1",
        "mnist-jax report run",  # which is not there: the device is looked for first
        "mnist-jax demo run",
        "mnist-jax predict run docs/seven.png",
        f"mnist-jax export run --format safetensors --out {out}/2",
        "mnist-jax import net --lesson mlp",
        "mnist-jax verify",
        *(
            f"{Path(script).stem} --data {toy_folder} --out {out}/3"
            for script in SCRIPTS
            if not re.search("speed|simulations", script)
        ),
        f"speed --data {toy_folder} --start-repeats 0 --out {out}/speed",
    ]
    done = run("-c", EVERY_COMMAND, *computing, "mnist-jax lessons", JAX_PLATFORMS="nonsense")
    *refusals, last = done.stderr.splitlines()
    assert last == "mnist-jax lessons worked"
    assert len(refusals) == len(computing)
    for line in refusals:
        assert line.startswith("error: JAX does not start (Unable to initialize backend 'nonsense'")
        assert "JAX_PLATFORMS=nonsense" in line
    assert [path.name for path in out.iterdir()] == ["speed"]  # made before a device is taken, and left empty
    assert list((out / "speed").iterdir()) == []


def test_disabled_jit_is_refused():
    with jax.disable_jit(), pytest.raises(UserError, match="JAX_DISABLE_JIT"):
        check_jax()


def test_debug_nans_is_refused():
    with jax.debug_nans(True), pytest.raises(UserError, match="JAX_DEBUG_NANS is set"):
        check_jax()
    with jax.debug_infs(True), pytest.raises(UserError, match="JAX_DEBUG_INFS is set"):
        check_jax()


def test_missing_plugin_is_named():
    line = refused(run("-m", "mnist_jax", "predict", "run", "docs/seven.png", JAX_PLATFORMS="cuda"))
    assert "plugin" in line
    assert "JAX_PLATFORMS=cuda" in line


GPU_WITHOUT_PLUGIN = """
import sys
from jax._src import hardware_utils
hardware_utils.has_visible_nvidia_gpu = lambda: True
from mnist_jax.cli.commands import main
main()
"""


def test_missing_gpu_plugin_is_reported_once_with_how_to_install_it(toy_folder, tmp_path):
    command = ["train", "mlp", "--epochs", "1", "--data", toy_folder, "--out", tmp_path / "run"]
    done = run("-c", GPU_WITHOUT_PLUGIN, *command)
    assert done.returncode == 0
    assert done.stderr == (
        "An NVIDIA GPU may be present, but JAX is installed for the CPU only, on which this runs. To use it: pip "
        f'install "jax[cuda13]=={jax.__version__}"\n'
    )
    chosen = run("-c", GPU_WITHOUT_PLUGIN, *command[:-1], tmp_path / "other", JAX_PLATFORMS="cpu")
    assert (chosen.returncode, chosen.stderr) == (0, "")


# --- streams ---


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&-"])
def test_closed_stream_is_not_an_error(shell):
    done = run("-m", "mnist_jax", "lessons", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("batch_norm" in done.stdout) == (shell != ">&-")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """The next file to be opened would get its number, and what XLA prints."""
    lines = [
        "import os, sys",
        "from mnist_jax.cli.program import guard",
        "guard()",
        "files = [open(path, 'xb') for path in sys.argv[1:]]",
        "for stream in (sys.stdout, sys.stderr): print('noise', file=stream, flush=True)",
        "for number in (1, 2): os.write(number, b'noise')",
    ]
    files = [tmp_path / name for name in "abc"]
    assert run("-c", "\n".join(lines), *files, shell="<&- >&- 2>&-").returncode == 0
    assert [file.read_bytes() for file in files] == [b"", b"", b""]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("code", "shell", "status", "says"),
    [
        ("print(1)", ">/dev/full", 2, "The output cannot be written (No space"),
        ("print(1, flush=True)", ">/dev/full", 2, "The output cannot be written (No space"),
        ("print(1); exit(0)", ">/dev/full", 2, "The output cannot be written (No space"),
        ("print(1)", ">/dev/full 2>&1", 2, ""),
        ("raise errors.UserError('No.')", ">/dev/full", 2, "error: No."),
        ("raise errors.UserError('No.')", "2>/dev/full", 2, ""),
        ("print(1); raise OSError(37, 'No locks')", "", 1, "OSError: [Errno 37] No locks"),
    ],
)
@pytest.mark.parametrize("buffered", ["", "1"])
def test_only_unwritable_output_is_blamed(code, shell, status, says, buffered):
    done = run("-c", ENDING + code, shell=shell, PYTHONUNBUFFERED=buffered)
    assert done.returncode == status
    assert says in done.stderr
    assert ("Traceback" in done.stderr) == (status == 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_unwritable_output_does_not_hide_an_error():
    done = run("-c", ENDING + "print(1); raise errors.UserError('No.')", shell=">/dev/full", PYTHONUNBUFFERED="")
    assert refused(done) == "error: No.\n"


def test_broken_pipe_ends_quietly():
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{sys.executable}" -c "$0" | true', ENDING + "print('x' * 100_000)"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", ["-m mnist_jax lessons", "-m mnist_jax data"])
def test_broken_pipe_ends_a_command_quietly(command):
    """rich, which prints their tables, would end with status 1."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{sys.executable}" {command} | true'],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


# --- what the imports end in ---


@pytest.fixture
def importing(tmp_path):
    """Run the program or a script where importing JAX does this."""

    def importing(code, *arguments, **variables):
        (tmp_path / "jax.py").write_text(code)
        return run(*arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", **variables)

    return importing


@pytest.mark.parametrize("arguments", [["-m", "mnist_jax", "lessons"], ["experiments/ladder.py"]])
def test_ctrl_c_during_imports_shows_no_traceback(importing, arguments):
    done = importing("raise KeyboardInterrupt", *arguments)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("arguments", [["-m", "mnist_jax", "lessons"], ["experiments/ladder.py"]])
@pytest.mark.parametrize("error", ["KeyError('ours')", "ImportError('jaxlib is missing')"])
def test_unexpected_error_keeps_its_traceback(importing, arguments, error):
    done = importing(f"raise {error}", *arguments, JAX_PLATFORMS="cpu")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert error.split("(")[0] in done.stderr.splitlines()[-1]
    assert "_end" not in done.stderr  # of nothing but where it was raised


CTRL_C_IN_A_CALLBACK = """
import gc
from mnist_jax.cli.program import guard
guard()
def called(*_):
    raise KeyboardInterrupt
gc.callbacks.append(called)
gc.collect()
print("trained on")
"""


def test_ctrl_c_in_a_c_callback_is_not_swallowed():
    """JAX has one of the garbage collector; Python would print a traceback and continue."""
    done = run("-c", CTRL_C_IN_A_CALLBACK)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


# --- in somebody's notebook ---


def test_commands_in_a_notebook_do_not_end_the_kernel():
    cells = [
        "from mnist_jax.cli.commands import main; main()",  # with the kernel's own arguments
        "import sys; sys.argv = ['mnist-jax', 'lessons']; main()",
        "sys.argv = ['mnist-jax', 'train', 'cnn']; main()",
        "print('alive')",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell, metadata={"tags": ["raises-exception"]}) for cell in cells])
    nbformat.validate(notebook)
    script("notebooks/run.py").run(notebook)
    own, lessons, wrong, alive = [
        [output.get("text") or output.get("evalue") or output.data["text/plain"] for output in cell.outputs]
        for cell in notebook.cells
    ]
    assert "Unrecognized options: -f" in own[0]
    assert "--help" in own[0]
    assert "batch_norm" in lessons[0]
    assert "Unrecognized options: cnn" in wrong[0]
    assert "Available subcommands: mlp, dropout, relu, batch_norm, he, adam" in wrong[0]
    assert wrong[1] == "2"
    assert alive == ["alive\n"]


def test_interrupts_need_no_pipe_without_waiting_where_there_is_none(monkeypatch):
    """On Windows before Python 3.12."""
    monkeypatch.delattr(os, "set_blocking")
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda _, **__: -1)
    with ends_at_once("go on"):
        pass


def test_ctrl_c_in_a_notebook_is_left_to_the_notebook(monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(os, "_exit", pytest.fail)
    before = signal.getsignal(signal.SIGINT)
    with ends_at_once("go on"):
        assert signal.getsignal(signal.SIGINT) == before
    with pytest.raises(KeyboardInterrupt), exit_on_user_error():
        raise KeyboardInterrupt
