"""A wheel holds all of the package, and its command works where the checkout is not."""

import os
import site
import subprocess
import sys
import zipfile

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow


def run(*command, **options):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture
def installed(wheel, tmp_path):
    """The folder of commands of an environment with the wheel, which finds its dependencies where the tests' are."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    commands = tmp_path / "env" / "bin"
    run(sys.executable, "-m", "pip", "--python", commands / "python", "install", "--no-deps", "--no-index", wheel)
    own = run(commands / "python", "-c", "import site; print(*site.getsitepackages())").strip()
    # A folder's own .pth files, such as the checkout's, count only where Python itself looks for them.
    (tmp_path / own / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return commands


def test_wheel_contains_every_package_file(wheel):
    files = [path for path in (ROOT / "mnist_jax").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    recorded = {f"mnist_jax/studies/{name}.json" for name in ("published_curves", "trajectories")}
    assert {"mnist_jax/py.typed", *recorded} <= packed


def test_installed_command_trains_and_reports(installed, toy_folder, tmp_path):
    assert str(tmp_path) in run(installed / "python", "-c", "import mnist_jax; print(mnist_jax.__file__)", cwd=tmp_path)
    command = installed / "mnist-jax"
    train = ["train", "mlp", "--hidden", "16", "8", "--epochs", "1", "--data", toy_folder, "--out", "run"]
    assert "test accuracy" in run(command, *train, cwd=tmp_path)
    assert "report.html" in run(command, "report", "run", cwd=tmp_path)
