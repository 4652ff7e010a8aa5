"""CSV and Parquet files as people have them, and as they should not be."""

import gzip
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
    **{
        f"a label called {name}": text(middle().rename(columns={"label": name}))
        for name in ("labels", "class", "target", "digit", "y")
    },
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
    "UTF-16": (text().encode("utf-16"), "not text in UTF-8; save it again in that encoding"),
    "UTF-16 without a mark": (text().encode("utf-16-le"), "not text in UTF-8"),
    "Latin-1": (
        text(DIGITS.rename(columns={"label": "\N{LATIN SMALL LETTER E WITH ACUTE}"})).encode("latin-1"),
        "UTF-8",
    ),
    "nothing": (b"", "mnist.csv is empty; fetch it again"),
    "nothing, gzipped": (gzip.compress(b""), "mnist.csv is empty; fetch it again"),
    "an empty line first": ("\n" + text(), "begins with an empty line; remove that"),
    "semicolons": (text(sep=";"), "lines of a few values, not of a label and 28 x 28 pixels with commas"),
    "only names": (text(DIGITS[:0]), "holds no images"),
    "a short row": (text() + "5,3\n", r"has 2 instead of 785 values in line 42; correct it"),
    "an index": (DIGITS.to_csv(), "lines of 786 values, .* remove other columns, such as an index"),
    "the label last, which no name says": (
        text(middle()[[*PIXELS, "label"]], header=False),
        "the label 0; check which",
    ),
    "scaled pixels": (text(DIGITS.assign(**PIXELS / 255)), "values from 0 to 1, .* multiply them by 255 and round"),
    "black and white": (text(DIGITS.assign(**(PIXELS > 99).astype(int))), "values from 0 to 1,"),
    "letters": (text(DIGITS.assign(label="b")), r"has 'b' in line 2, column 1 \('label'\), where a number from 0 to 9"),
    "a label left out": (
        text(DIGITS.assign(label=[*[1, 2] * 19, None, 3])),
        r"an empty cell in line 40, column 1 \('label'\), where a number from 0 to 9 belongs; correct it, or remove",
    ),
    "a pixel left out": (
        text(DIGITS.assign(pixel5=[None, *[1, 2] * 19, 3])),
        r"an empty cell in line 2, column 7 \('pixel5'\), where a number from 0 to 255 belongs",
    ),
    "a pixel left out of floats": (text(DIGITS.astype(float).replace(DIGITS.pixel5[0], np.nan)), "an empty cell in"),
    "a pixel left out, without header": (
        text(DIGITS, header=False).replace(",0", ",", 1),
        "in line 1, column 2, where",
    ),
    "a pixel left out after empty lines": (text().replace("\n", "\n\n") + ",0" * 784, "in line 83, column 1 "),
    "a pixel left out after a mark": (
        "\N{BYTE ORDER MARK}" + text(DIGITS.assign(pixel5=[*[1, 2] * 19, None, 3]), header=False),
        "an empty cell in line 39, column 7, where",
    ),
    "a pixel that is not finite": (text(DIGITS.assign(pixel783="-inf")), "has '-inf' in line 2, column 785 "),
    "a number with a group": (text(DIGITS.assign(pixel783="1_0")), "cannot be read as a CSV file of digits .*'1_0'"),
    "a label among the pixels": (text(middle().assign(label="two")), r"'two' in line 2, column 400 .* from 0 to 9"),
    "a negative pixel": (text(DIGITS.assign(pixel5=-1)), "values from -1 to"),
    "control characters": (text() + "\x1b[31m\n", "has 1 instead of 785 values in line 42"),
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
        "has the columns image.path, label, not `image.bytes` and `label`; write a column `image` with PNG files",
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
