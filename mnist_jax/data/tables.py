"""Readers of tables, by pyarrow: CSV with a column per pixel, and Hugging Face's Parquet with encoded pictures."""

import contextlib
import csv
import itertools
import json
import math
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax.data.arrays import MOST_BYTES, as_pixels
from mnist_jax.data.files import opened
from mnist_jax.data.needed import needed
from mnist_jax.data.pictures import decoded_image
from mnist_jax.data.pieces import LONGEST_NAME, Pieces, classes_of
from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import IMAGE_SHAPE, PIXELS

LONGEST_LINE = 1 << 16  # bytes of a first line that may be one of 784 numbers or names
_BLOCK = 1 << 20  # bytes of CSV that are parsed at a time
_ROWS = 256  # of Parquet that are read at a time
_LABEL_NAMES = {"label", "labels", "class", "target", "digit", "y"}


def fields(line: bytes) -> list[str]:
    """The fields of a CSV file's first line; [] where it is none, or not text in UTF-8."""
    if b"\0" in line:  # of UTF-16
        return []
    try:
        return next(csv.reader([line.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def read_csv(path: Path) -> Pieces:
    """Images and labels of a CSV file of 785 columns, of which the label's is known by its name or is the first.

    Raises:
      UserError: it is damaged, or has other columns or values.
    """
    arrow, reader = needed("pyarrow", "CSV files"), needed("pyarrow.csv", "CSV files")
    with opened(path) as file:
        line = file.readline(LONGEST_LINE)
    if not line.strip():
        raise UserError(f"{path} begins with an empty line; remove that.")
    if not (first := fields(line)):
        raise UserError(f"{path} is not text in UTF-8; save it again in that encoding, or fetch it again.")
    if len(first) != PIXELS + 1:
        raise UserError(
            f"{path} has lines of {len(first):,} values, not of a label and 28 x 28 pixels; remove other columns, such "
            "as an index."
        )
    columns = [str(column) for column in range(len(first))]
    has_names = first == columns or not all(_is_number(name) or not name.strip() for name in first)
    labels = [column for column, name in zip(columns, first, strict=True) if name.strip().lower() in _LABEL_NAMES]
    label = labels[0] if labels else columns[0]
    pixels = [column for column in columns if column != label]
    for kind in (arrow.uint8(), arrow.float32()):  # numbers such as 253.0 are rarer, and slower
        convert = reader.ConvertOptions(
            column_types={label: arrow.float32(), **dict.fromkeys(pixels, kind)},
        )
        options = reader.ReadOptions(
            use_threads=False, block_size=_BLOCK, column_names=columns, skip_rows=int(has_names)
        )
        try:
            with opened(path) as file, reader.open_csv(file, options, convert_options=convert) as batches:
                return _gathered(((_matrix(batch, pixels), _matrix(batch, [label])[:, 0]) for batch in batches), path)
        except (arrow.ArrowInvalid, TypeError) as error:
            refusal: Exception = error
    fault = _fault(path, first if has_names else [], int(label))
    raise UserError(fault or f"{path} cannot be read as a CSV file of digits ({reason(refusal)}).") from refusal


def _matrix(batch: Any, columns: list[str]) -> np.ndarray:
    """Columns of one type as `[rows, columns]`.

    Raises:
      TypeError: a value is missing (Arrow's own), or not finite.
    """
    values = batch.select(columns).to_tensor(row_major=True).to_numpy()
    if not np.isfinite(values).all():
        raise TypeError("a value is not a finite number")
    return values


def _fault(path: Path, names: list[str], label: int) -> str | None:
    """Which line of a CSV file has other than 785 values, or which cell no number; the first of them.

    Args:
      path: the file.
      names: its header, or [].
      label: the label's column, counted from 0.
    """
    with opened(path) as file, contextlib.suppress(csv.Error):
        lines = iter(lambda: file.readline(LONGEST_LINE), b"")  # never more of a line, however long it is
        rows = csv.reader(line.decode("utf-8-sig", "replace") for line in lines)
        for row in itertools.islice(rows, bool(names), None):
            if row and len(row) != PIXELS + 1:
                return (
                    f"{path} has {len(row):,} instead of {PIXELS + 1} values in line {rows.line_num}; correct it, or "
                    "fetch the file again."
                )
            for column, cell in enumerate(row):
                if not _is_number(cell) or not math.isfinite(float(cell)):
                    name = f" ({names[column].strip()[:LONGEST_NAME]!r})" if names else ""
                    return (
                        f"{path} has {repr(cell[:LONGEST_NAME]) if cell.strip() else 'an empty cell'} in line "
                        f"{rows.line_num}, column {column + 1}{name}, where a number from 0 to "
                        f"{9 if column == label else 255} belongs; correct it, or remove that line."
                    )
    return None


def _gathered(batches: Iterable[tuple[np.ndarray, np.ndarray]], path: Path) -> Pieces:
    """Images and labels of batches."""
    pixels, labels = bytearray(), []  # a bytearray grows in place: there is no second copy of all images
    for images, digits in batches:
        pixels += as_pixels(images, str(path)).data
        labels.append(digits)
        if len(pixels) > MOST_BYTES:
            raise UserError(f"{path} holds more than {MOST_BYTES:,} bytes of images.")
    if not labels:
        raise UserError(f"{path} holds no images.")
    return {"images": np.frombuffer(pixels, np.uint8).reshape(-1, *IMAGE_SHAPE), "labels": np.concatenate(labels)}


def read_parquet(path: Path) -> Pieces:
    """Images and labels of a Parquet file as Hugging Face keeps it: columns `image`, with PNG in `bytes`, and `label`.

    Raises:
      UserError: it is damaged, or has other columns or values.
    """
    arrow, reader = needed("pyarrow", "Parquet files"), needed("pyarrow.parquet", "Parquet files")
    try:
        about = reader.read_metadata(path)
        columns = [about.schema.column(number).path for number in range(about.num_columns)]
        if not {"image.bytes", "label"} <= set(columns):
            shown = textwrap.shorten(", ".join(columns), 99, placeholder=" …")
            raise UserError(
                f"{path} has the columns {shown}, not `image.bytes` and `label`; write a column `image` with PNG files "
                "in the field `bytes`, and a column `label` (docs/data.md shows how)."
            )
        if sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups)) > MOST_BYTES:
            raise UserError(f"{path} says that it holds more than {MOST_BYTES:,} bytes.")
        # As a dictionary, so that a picture which many rows refer to is in memory once.
        with reader.ParquetFile(path, metadata=about, read_dictionary=["image.bytes"]) as file:
            batches = (
                batch  # none of two row groups, which have different dictionaries
                for number in range(about.num_row_groups)
                for batch in file.iter_batches(_ROWS, [number], ["image.bytes", "label"], use_threads=False)
            )
            # `to_numpy` imports pandas, which takes seconds and 60 MB.
            pieces = _gathered(
                ((_decoded(batch["image"]), np.array(batch["label"].to_pylist())) for batch in batches), path
            )
    except (arrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as Parquet ({reason(error)}); fetch it again.") from error
    return {**pieces, **classes_of(_class_names(about.metadata or {}))}


def _decoded(column: Any) -> np.ndarray:
    """The pictures of an Arrow array of structs whose only field is `bytes`; one at a time is copied from it."""
    return np.stack([decoded_image(encoded.as_py() or b"") for encoded in column.field("bytes")])


def _class_names(metadata: Mapping[bytes, bytes]) -> list[str]:
    """The names that `datasets` keeps beside its columns."""
    try:
        return list(map(str, json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]))
    except (KeyError, TypeError, ValueError):
        return []
