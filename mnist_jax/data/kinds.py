"""Which format a file or folder is in, by how it begins."""

import re
import zipfile
from pathlib import Path

from mnist_jax.data.files import opened
from mnist_jax.data.pictures import PICTURE, count_picture_folders
from mnist_jax.data.tables import LONGEST_LINE, fields
from mnist_jax.errors import UserError
from mnist_jax.lessons import CLASSES, PIXELS

_FEWEST_FIELDS = 50  # in a line that may be an image; CSV files with fewer are something else
_HEAD = 512  # bytes, enough for the mark of a tar archive
_BEGINNINGS = {
    b"\x93NUMPY": "numpy",
    b"PAR1": "parquet",
    b"MATLAB": "matlab",
    **{bytes([0x80, protocol]): "pickle" for protocol in range(2, 6)},
    **{bytes([0, 0, kind, count]): "idx" for kind in (8, 9, 11, 12, 13, 14) for count in range(1, 5)},
}
# For files that begin like none of these: damaged ones, and old pickles.
_ENDINGS = {
    **dict.fromkeys(("pkl", "pickle", "pt", "pth"), "pickle"),
    **dict.fromkeys(("npz", "npy"), "numpy"),
    **{"csv": "csv", "parquet": "parquet", "mat": "matlab"},
}
# For all other files: why they are refused.
_OTHERS = {
    "picture": PICTURE,
    "archive": re.compile(rb"BZh\d|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar", re.DOTALL),
    "hdf5": re.compile(rb"\x89HDF"),
    "page": re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE),
    "narrow": re.compile(rb"([^\n;\t ]*[;\t ]){700}"),  # a label and pixels, without commas between them
}


def kind_of(path: Path) -> str | None:
    """A key of `forms.FORMS`, or of `forms.REFUSED`."""
    try:
        if path.is_file():
            return _kind_of_file(path)
        if not path.is_dir():
            return "pipe" if path.exists() else "link"
    except (OSError, UserError, ValueError, NotImplementedError, zipfile.BadZipFile):  # the reader says why
        return _by_name(path)
    try:
        return _kind_of_folder(path)
    except OSError:
        return "closed"


def _kind_of_file(path: Path) -> str | None:
    with opened(path) as file:
        begin = file.read(_HEAD)
        begin += b"" if b"\n" in begin else file.readline(LONGEST_LINE)
    if begin.startswith(b"PK"):
        return _kind_of_zip(path)
    found = next((kind for beginning, kind in _BEGINNINGS.items() if begin.startswith(beginning)), None)
    if found:
        return found
    names = fields(begin.partition(b"\n")[0])
    if len(names) >= _FEWEST_FIELDS:
        return "unlabelled" if len(names) == PIXELS else "csv"
    named = _by_name(path)
    if named is None:
        return next((kind for kind, pattern in _OTHERS.items() if pattern.match(begin)), None)
    return "narrow" if named == "csv" and names else named


def _by_name(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return "idx" if "-ubyte" in name else _ENDINGS.get(name.rpartition(".")[2])


def _kind_of_zip(path: Path) -> str | None:
    """Numpy's archive, a net's or a tensor's of PyTorch, or any other."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("data.pkl") for name in names):
        return "pickle"
    return "numpy" if any(name.endswith(".npy") for name in names) or path.suffix == ".npz" else "archive"


def _kind_of_folder(folder: Path) -> str | None:
    if (folder / "dataset_info.json").is_file():
        return "tfds"
    count = count_picture_folders(folder)
    return "pictures" if count > CLASSES // 2 else "few" if count else None
