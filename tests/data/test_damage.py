"""Damaged, cut-short and hostile files are digits or one sentence, and take no more memory than they may."""

import functools
import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import forms
from helpers.forms import WRITERS, few, largest, refusal
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import UserError
from mnist_jax.data import forms as read
from mnist_jax.data import matlab, npz, tables
from mnist_jax.data.sources import read_arrays

DAMAGED = {
    name: WRITERS[name]
    for name in (
        *("four IDX files", "QMNIST/raw", "EMNIST's MATLAB file", "Keras's npz", "npz, not packed", "kmnist's npz"),
        *("CSV", "CSV, gzipped", "OpenML's CSV", "Parquet", "pictures"),
    )
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_cut_short_file_is_refused(tmp_path, name):
    path = DAMAGED[name][0](tmp_path, *few())
    file = largest(path)
    content = file.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 30):
        file.write_bytes(content[:length])
        refusal(path)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(tmp_path, name):
    path = DAMAGED[name][0](tmp_path, *few())
    file = largest(path)
    content = file.read_bytes()
    for place in (len(content) // 3, len(content) // 2):
        file.write_bytes(content[:place] + b"\xff\x00" * 60 + content[place + 120 :])
        refusal(path)


def test_a_gzipped_table_that_cannot_be_unpacked_is_known_by_its_name(tmp_path):
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(b"label,pixel0")[:20])
    assert re.fullmatch(rf"{path} is damaged \(.*\); fetch it again\.", refusal(tmp_path))


@functools.cache
def one_file(name, folder):
    """A form in one file, of few digits."""
    folder.mkdir()
    path = WRITERS[name][0](folder, *few(10))
    return path, largest(path)


@given(
    name=st.sampled_from(list(DAMAGED)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.floats(0, 1),
)
def test_any_damage_gives_digits_or_a_refusal(tmp_path_factory, name, changes, cut):
    folder = tmp_path_factory.getbasetemp() / f"any {name.replace('/', ' ')}"
    path, file = one_file(name, folder)
    whole = file.read_bytes()
    content = bytearray(whole)
    for place, value in changes:
        content[int(place * len(content))] = value
    if cut is not None:
        content = content[: int(cut * len(content))]
    file.write_bytes(content)
    try:
        arrays = read._arrays(read.find(path))
    except UserError as error:
        arrays, said = None, str(error)
    file.write_bytes(whole)
    if arrays is None:
        assert len(said.splitlines()) == 1
        assert content != whole
        return
    for part in (arrays.train, arrays.test):
        assert part.images.shape == (part.size, 28, 28)
        assert part.labels.max() <= 9


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 28, 28), }", "it says that it holds"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 28, 28), }", "is of .* bytes, not 784,000,000"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28), }", "cannot be read"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 28, 28), }", "never unpickled"),
        ("__import__('os').abort()", "cannot be read"),
        ("[" * 9000, "cannot be read"),
    ],
)
def test_what_numpy_s_headers_claim_is_not_trusted(tmp_path, header, says):
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(99)
    (tmp_path / "x_train.npy").write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_arrays(str(tmp_path))


def test_an_npy_file_that_is_too_long_is_refused(tmp_path):
    forms.write_npy(tmp_path, *few())
    with (tmp_path / "x_test.npy").open("ab") as file:
        file.write(b"x")
    assert "its array is of" in refusal(tmp_path)


# --- what is small packed and large unpacked ---


def columns(encoded, count):
    """Parquet's columns, of which all rows refer to the same picture."""
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([encoded], pa.binary()))
    image = pa.StructArray.from_arrays([values], names=["bytes"])
    return pa.table({"image": image, "label": np.arange(count) % 10})


def test_a_large_picture_in_parquet_is_not_multiplied(tmp_path):
    path, size = tmp_path / "train.parquet", 20_000_000
    options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    pq.write_table(columns(bytes(size), 600), path, **options)
    assert path.stat().st_size < 10_000
    usual, counting = pa.default_memory_pool(), pa.system_memory_pool()  # which nothing else uses
    pa.set_memory_pool(counting)
    try:
        assert "more than 1,048,576 bytes" in refusal(path)
    finally:
        pa.set_memory_pool(usual)
    assert size <= counting.max_memory() < 4 * size


def test_of_a_picture_that_many_rows_refer_to_there_is_one(tmp_path):
    image = few()[0].images[0]
    pq.write_table(columns(forms.png(image), 20), tmp_path / "train.parquet")
    train = read_arrays(str(tmp_path)).train
    assert train.labels.tolist() == [*range(10), *range(8)]
    assert (train.images == image).all()


@pytest.mark.parametrize("name", ["Parquet", "EMNIST's MATLAB file", "CSV", "Keras's npz"])
def test_more_bytes_than_may_be_are_refused(tmp_path, monkeypatch, name):
    path = WRITERS[name][0](tmp_path, *few())
    for module in (matlab, tables, npz):
        monkeypatch.setattr(module, "MOST_BYTES", 1_000)
    says = "says that it holds more" if name == "Parquet" else "holds more than 1,000 bytes|holds an array of shape"
    assert re.search(says, refusal(path))


def test_a_matlab_file_of_the_other_byte_order_is_looked_at_too(tmp_path):
    path = forms.write_matlab(tmp_path, *few())
    content = bytearray(path.read_bytes())
    order, content[126:128] = content[126:128], b"MI"
    content[128:136] = content[128:132][::-1] + content[132:136][::-1]
    path.write_bytes(content)
    matlab._check_size(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matlab, "MOST_BYTES", 9_000)
        with pytest.raises(ValueError, match="more than 9,000 bytes"):
            matlab._check_size(path)
    assert order == b"IM"
