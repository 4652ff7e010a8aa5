"""Run the notebooks again, in place, with the Python that runs this and the mnist_jax beside this folder.

    python notebooks/run.py [--no-run] [NOTEBOOK.ipynb ...]

What a run leaves in a notebook depends on the notebook and on what it computes: no times, no paths, no widgets.

The folder ko/ holds each notebook in Korean: its own text, and the code and outputs of the English one, which are
copied whenever this runs, with the comments in Korean. The first cell of each notebook installs the project from its
address, which is taken from `Repository` in pyproject.toml. With --no-run only these two things are done.
"""

import argparse
import copy
import os
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parent
ADDRESS = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
SET_UP = f"""\
import importlib.util

# Where mnist_jax is not installed, as in Colab, install it.
if importlib.util.find_spec("mnist_jax") is None:
    %pip install -q "mnist_jax[app] @ git+{ADDRESS}"\
"""

COMMENTS = {  # in code, docstrings too: English -> Korean
    "Where mnist_jax is not installed, as in Colab, install it.": "Colab처럼 mnist_jax가 없는 곳에서는 설치합니다.",
    "  # a copy": "  # 복사본",
    "The first hidden layer's outputs for the image, in training with this key, and in evaluation.": (
        "이미지를 넣었을 때 첫 번째 은닉층의 출력: 이 난수 키로 학습할 때와 평가할 때."
    ),
    "Of the loss in a training step on these examples, with respect to the weights.": (
        "이 데이터로 학습하는 한 스텝에서 손실을 가중치로 미분한 기울기."
    ),
    "What goes into the two hidden layers' ReLUs in a training step on this batch.": (
        "이 배치로 학습하는 한 스텝에서 두 은닉층의 ReLU에 들어가는 입력값."
    ),
    "Norm of the first gradient over that of the kernel, for the two kernels in front of batch norm.": (
        "배치 정규화 바로 앞의 두 가중치 행렬에서, 첫 기울기의 크기를 가중치 행렬의 크기로 나눈 값."
    ),
    "copies: train_step reuses the memory of the state": "복사본: train_step은 상태의 메모리를 다시 씁니다",
}


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


def korean_code(source: str) -> str:
    """A code cell with its comments in Korean."""
    for english, korean in COMMENTS.items():
        source = source.replace(english, korean)
    return source


def with_text_of(translation: NotebookNode, notebook: NotebookNode) -> NotebookNode:
    """The notebook, with the translation's text in place of its own, cell by cell, and comments in Korean.

    Raises:
        ValueError: One of the two has a text cell that the other lacks.
    """
    texts = {cell.id: cell.source for cell in translation.cells if cell.cell_type == "markdown"}
    result = copy.deepcopy(notebook)
    ours = {cell.id for cell in result.cells if cell.cell_type == "markdown"}
    if different := sorted(ours ^ texts.keys()):
        raise ValueError(f"only one of the two languages has the text cell {different[0]!r}; add it to the other.")
    for cell in result.cells:
        cell.source = texts[cell.id] if cell.id in texts else korean_code(cell.source)
    return result


def renew(path: Path, *, execute: bool) -> None:
    """Write the notebook's first cell, run it if `execute`, and bring the one in Korean into step if there is one."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.id == "set-up":
            cell.source = SET_UP
    korean = path.parent / "ko" / path.name
    translation = nbformat.read(korean, as_version=4) if korean.exists() else None
    if translation:
        with_text_of(translation, notebook)  # differences are found before a long run
    if execute:
        run(notebook)
    nbformat.write(notebook, path)
    if translation:
        nbformat.write(with_text_of(translation, notebook), korean)


def main() -> None:
    """Renew the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description="Run the notebooks again, in place, in both languages.")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK.ipynb", help="notebooks (default: all)")
    parser.add_argument("--no-run", action="store_true", help="only write the address and the Korean notebooks")
    arguments = parser.parse_args()
    paths = arguments.notebooks or sorted(FOLDER.glob("*.ipynb"))
    for path in paths:
        if path.suffix != ".ipynb" or not path.is_file():
            parser.error(f"{path} is not a notebook; name .ipynb files, or none for all.")
        if path.resolve().parent == FOLDER / "ko":
            parser.error(f"{path} takes its code from the English notebook; name ../{path.name}, which renews both.")
    for path in paths:
        print(path.name, flush=True)
        try:
            renew(path, execute=not arguments.no_run)
        except ValueError as error:
            parser.error(f"{path.name}: {error}")


if __name__ == "__main__":
    main()
