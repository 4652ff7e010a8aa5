"""Readers of tables, by pyarrow: CSV with a column per pixel, and Hugging Face's Parquet with encoded pictures."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax.data.arrays import MOST_BYTES, as_pixels
from mnist_jax.data.files import opened
from mnist_jax.data.needed import needed
from mnist_jax.data.pictures import decoded_image
from mnist_jax.data.pieces import Pieces, classes_of
from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import IMAGE_SHAPE, PIXELS

LONGEST_LINE = 1 << 16  # bytes of a first line that may be one of 784 numbers or names
_BLOCK = 1 << 20  # bytes of CSV that are parsed at a time
_ROWS = 256  # of Parquet that are read at a time
_LABEL_NAMES = {"label", "labels", "class", "target", "digit", "y"}


def fields(line: bytes) -> list[str]:
    """The fields of a CSV file's first line; [] where it is none."""
    try:
        return next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")]), [])
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
        first = fields(file.readline(LONGEST_LINE))
    if not first:
        raise UserError(f"{path} is empty, or not text in UTF-8; fetch it again.")
    if len(first) != PIXELS + 1:
        raise UserError(
            f"{path} has lines of {len(first):,} values, not of a label and 28 x 28 pixels; remove other columns, such "
            "as an index."
        )
    columns = [str(column) for column in range(len(first))]
    has_names = first == columns or not all(map(_is_number, first))
    labels = [column for column, name in zip(columns, first, strict=True) if name.strip().lower() in _LABEL_NAMES]
    label = labels[0] if labels else columns[0]
    pixels = [column for column in columns if column != label]
    refusal: Exception | None = None
    for kind in (arrow.uint8(), arrow.float32()):  # numbers such as 253.0 are rarer, and slower
        convert = reader.ConvertOptions(
            column_types={label: arrow.string(), **dict.fromkeys(pixels, kind)},
            null_values=[],
            strings_can_be_null=False,
        )
        options = reader.ReadOptions(
            use_threads=False, block_size=_BLOCK, column_names=columns, skip_rows=int(has_names)
        )
        try:
            with opened(path) as file, reader.open_csv(file, options, convert_options=convert) as batches:
                return _gathered(((_matrix(batch.select(pixels)), batch[label]) for batch in batches), path)
        except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
            refusal = refusal or error
    raise UserError(f"{path} cannot be read as a CSV file of digits ({reason(refusal)}).") from refusal  # type: ignore[arg-type]


def _matrix(batch: Any) -> np.ndarray:
    """A batch of columns of one type as `[rows, columns]`."""
    return batch.to_tensor(row_major=True).to_numpy()


def _gathered(batches: Iterable[tuple[np.ndarray, Any]], path: Path) -> Pieces:
    """Images and labels of batches, of which the labels are an Arrow array."""
    pixels, labels = bytearray(), []  # a bytearray grows in place: there is no second copy of all images
    for images, column in batches:
        pixels += as_pixels(images, str(path)).data
        labels.append(np.array(column.to_pylist()))  # `to_numpy` imports pandas, which takes seconds and 60 MB
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
            raise UserError(f"{path} has the columns {', '.join(columns)[:99]}, not `image.bytes` and `label`.")
        if sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups)) > MOST_BYTES:
            raise UserError(f"{path} says that it holds more than {MOST_BYTES:,} bytes.")
        # As a dictionary, so that a picture which many rows refer to is in memory once.
        with reader.ParquetFile(path, metadata=about, read_dictionary=["image.bytes"]) as file:
            batches = (
                batch  # none of two row groups, which have different dictionaries
                for number in range(about.num_row_groups)
                for batch in file.iter_batches(_ROWS, [number], ["image.bytes", "label"], use_threads=False)
            )
            pieces = _gathered(((_decoded(batch["image"]), batch["label"]) for batch in batches), path)
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
