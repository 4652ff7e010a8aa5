"""CSV and Parquet files as people have them, and as they should not be."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import forms
from helpers.digits import same
from helpers.forms import few, refusal

from mnist_jax import Examples
from mnist_jax.data.sources import read_arrays

DIGITS = forms.frame(few(40)[0])
PIXELS = DIGITS.drop(columns="label")


def text(frame=DIGITS, **options):
    return frame.to_csv(index=False, **options)


def middle():
    return DIGITS[[*DIGITS.columns[1:400], "label", *DIGITS.columns[400:]]]


# --- read ---

READ = {
    "UTF-8 with a mark, and Windows' ends of lines": ("\N{BYTE ORDER MARK}" + text()).replace("\n", "\r\n"),
    "UTF-8 with a mark, without header": "\N{BYTE ORDER MARK}" + text(header=False),
    "spaces": text().replace(",", ", "),
    "quotes": text(DIGITS.astype(str), quoting=1),
    "empty lines": text().replace("\n", "\n\n"),
    "no end of the last line": text().rstrip("\n"),
    "numbers as names of pixels": text(DIGITS.set_axis(["label", *range(784)], axis=1)),
    "numbers as names of all columns": text(DIGITS.set_axis(range(785), axis=1)),
    "the label among the pixels": text(middle()),
    "the label's name in capitals": text(middle().rename(columns={"label": " Label"})),
    "names that do not say which is the label": text(DIGITS.rename(columns={"label": "0"})),
    "labels as floats": text(DIGITS.astype({"label": float})),
    "pixels as floats": text(DIGITS.astype(float)),
}


@pytest.mark.parametrize("name", READ)
def test_csv_is_read_as_people_have_it(tmp_path, name):
    (tmp_path / "mnist.csv").write_text(READ[name], "utf-8", newline="")
    arrays = read_arrays(str(tmp_path / "mnist.csv"))
    (images, labels), (test_images, test_labels) = arrays.train, arrays.test
    assert same(Examples(np.r_[images, test_images], np.r_[labels, test_labels]), few(40)[0])


@pytest.mark.parametrize(
    "kind", ["string", "dictionary", "large_binary", "zstd", "names with hashes", "two row groups"]
)
def test_parquet_is_read_as_people_have_it(tmp_path, kind):
    images, labels = few(40)[0]
    binary = pa.large_binary() if kind == "large_binary" else pa.binary()
    column = pa.array([{"bytes": forms.png(image)} for image in images], pa.struct([("bytes", binary)]))
    label = pa.array(labels.astype("U1" if kind in ("string", "dictionary") else int).tolist())
    if kind == "dictionary":
        label = label.dictionary_encode()
    options = {"compression": "zstd"} if kind == "zstd" else {"row_group_size": 20} if kind == "two row groups" else {}
    names = ["train.parquet", "test.parquet"]
    if kind == "names with hashes":
        names = ["train-00000-of-00001-b42a3f2b3b0f3c2b.parquet", "test-00000-of-00001-0123456789abcdef.parquet"]
    for name in names:
        pq.write_table(pa.table({"label": label, "image": column}), tmp_path / name, **options)
    arrays = read_arrays(str(tmp_path))
    assert same(arrays.train, few(40)[0])
    assert same(arrays.test, few(40)[0])


# --- refused ---

REFUSED = {
    "another alphabet of bytes": (text().encode("utf-16"), "is empty, or not text in UTF-8"),
    "nothing": (b"", "is empty, or not text in UTF-8"),
    "semicolons": (text(sep=";"), "lines of a few values, not of a label and 28 x 28 pixels with commas"),
    "only names": (text(DIGITS[:0]), "holds no images"),
    "a short row": (text() + "5,3\n", "Expected 785 columns, got 2"),
    "an index": (DIGITS.to_csv(), "lines of 786 values, .* remove other columns, such as an index"),
    "the label last, which no name says": (
        text(middle()[[*PIXELS, "label"]], header=False),
        "the label 0; check which",
    ),
    "scaled pixels": (text(DIGITS.assign(**PIXELS / 255)), "values from 0 to 1, .* multiply them by 255 and round"),
    "black and white": (text(DIGITS.assign(**(PIXELS > 99).astype(int))), "values from 0 to 1,"),
    "letters": (text(DIGITS.assign(label="b")), r"no numbers \(could not convert string to float: 'b'\)"),
    "a label left out": (text(DIGITS.assign(label=[None, *[1, 2] * 19, 3])), "labels that are no numbers"),
    "a pixel left out": (text(DIGITS.assign(pixel5=[None, *[1, 2] * 19, 3])), "cannot be read as a CSV file"),
    "a negative pixel": (text(DIGITS.assign(pixel5=-1)), "values from -1 to"),
    "control characters": (text() + "\x1b[31m\n", "Expected 785 columns, got 1: \N{REPLACEMENT CHARACTER}"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_csv_that_is_otherwise_is_refused(tmp_path, name):
    content, says = REFUSED[name]
    (tmp_path / "mnist.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert re.search(says, refusal(tmp_path / "mnist.csv"))


def image(kind, value):
    return pa.array([value] * 3, kind)


BYTES = pa.struct([("bytes", pa.binary())])
PNG = forms.png(few()[0].images[0])
BAD = {
    "no bytes": (
        image(pa.struct([("path", pa.string())]), {"path": "x"}),
        [1, 2, 3],
        "has the columns image.path, label",
    ),
    "text for bytes": (image(pa.struct([("bytes", pa.string())]), {"bytes": "x"}), [1, 2, 3], "cannot be read as"),
    "no picture": (image(BYTES, {"bytes": b"x"}), [1, 2, 3], "neither PNG nor JPEG"),
    "a large one": (image(BYTES, {"bytes": bytes(2_000_000)}), [1, 2, 3], "more than 1,048,576 bytes"),
    "no value": (image(BYTES, {"bytes": None}), [1, 2, 3], "neither PNG nor JPEG"),
    "nothing": (image(BYTES, None), [1, 2, 3], "neither PNG nor JPEG"),
    "a wrong checksum": (image(BYTES, {"bytes": PNG[:50] + b"?" + PNG[51:]}), [1, 2, 3], "cannot be read as Parquet"),
    "lists of labels": (
        image(BYTES, {"bytes": PNG}),
        [[1], [2], [3]],
        "has the columns image.bytes, label.list.element",
    ),
    "a label left out": (image(BYTES, {"bytes": PNG}), [1, None, 3], "holds the label None"),
    "no rows": (image(BYTES, {"bytes": PNG})[:0], pa.array([], pa.int64()), "holds no images"),
}


@pytest.mark.parametrize("name", BAD)
def test_parquet_that_is_otherwise_is_refused(tmp_path, name):
    column, label, says = BAD[name]
    pq.write_table(pa.table({"image": column, "label": label}), tmp_path / "x.parquet")
    assert says in refusal(tmp_path)


def test_columns_of_one_name_are_refused(tmp_path):
    column = image(BYTES, {"bytes": PNG})
    table = pa.Table.from_arrays([column, column, pa.array([1, 2, 3])], ["image", "image", "label"])
    pq.write_table(table, tmp_path / "x.parquet")
    assert "cannot be read as Parquet" in refusal(tmp_path)


def test_a_file_of_git_s_large_file_storage_is_to_be_fetched(tmp_path):
    """As a Hugging Face repository is, if it is cloned without git-lfs."""
    (tmp_path / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    assert refusal(tmp_path).endswith("; fetch it again.")
