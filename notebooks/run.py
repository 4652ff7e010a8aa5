"""Run the notebooks again, in place, with the Python that runs this and the mnist_jax beside this folder.

    python notebooks/run.py [NOTEBOOK.ipynb ...]

What a run leaves in a notebook depends on the notebook and on what it computes: no times, no paths, no widgets.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parent


class ThisPython(AsyncKernelManager):
    """Kernels of the interpreter that runs this, whatever kernels the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """In place of the one that the notebook names."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, metadata={"supported_encryption": "curve"})


def run(notebook: NotebookNode) -> None:
    """Run all cells in a kernel of their own, and keep their outputs; an error in a cell is raised."""
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        config=Config(KernelManager={"transport_encryption": "auto"}),
        record_timing=False,
        coalesce_streams=True,
    )
    with tempfile.TemporaryDirectory() as settings:  # not the user's, which could change outputs
        environment = {
            "IPYTHONDIR": settings,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYTHONPATH": str(FOLDER.parent),
        }
        client.execute(cwd=str(FOLDER), env=os.environ | environment)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


if __name__ == "__main__":
    paths = [*map(Path, sys.argv[1:])] or sorted(FOLDER.glob("*.ipynb"))
    if strangers := [path for path in paths if path.suffix != ".ipynb" or not path.is_file()]:
        print(f"error: {strangers[0]} is no notebook; name .ipynb files, or none for all.", file=sys.stderr)
        sys.exit(2)
    for path in paths:
        print(path.name, flush=True)
        notebook = nbformat.read(path, as_version=4)
        run(notebook)
        nbformat.write(notebook, path)
