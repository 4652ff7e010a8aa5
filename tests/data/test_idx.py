import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from helpers import idx_bytes
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import UserError
from mnist_jax.data.idx import read_idx

IMAGES = np.arange(5 * 28 * 28, dtype=np.int64).reshape(5, 28, 28).astype(np.uint8)
WHOLE = idx_bytes(IMAGES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_what_was_written(tmp_path, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(WHOLE))
    np.testing.assert_array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an IDX file of images"),
        (WHOLE[:10], "not an IDX file"),
        (b"\x00\x00\x0d\x03" + WHOLE[4:], "not an IDX file"),
        (idx_bytes(IMAGES[:, 0, 0]), "not an IDX file of images"),
        (WHOLE[:-1], "fewer bytes"),
        (WHOLE + b"x", "more bytes"),
        (gzip.compress(WHOLE, mtime=0)[:-20], "damaged"),
        (gzip.compress(WHOLE, mtime=0)[:30] + b"\xff" * 8 + gzip.compress(WHOLE, mtime=0)[38:], "damaged"),
        (gzip.compress(WHOLE + b"x", mtime=0), "more bytes"),
        (b"\x1f\x8b junk", "damaged"),
        (b"\0\0\x08\x03" + b"\0" * 4 + b"\xff" * 8, "no array can have"),
        (b"<html>404</html>" * 9, "not an IDX file"),
    ],
)
def test_bad_file_is_refused(tmp_path, content, says):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_idx(path, 3)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("begin", "more", "says"),
    [(b"\x00\x00\x08\x03" + b"\xff" * 12, 0, "fewer bytes"), (WHOLE, 2**24, "more bytes")],
    ids=["of more", "of less"],
)
def test_sizes_in_a_header_are_not_trusted(tmp_path, pack, begin, more, says):
    path = tmp_path / "huge"
    path.write_bytes(pack(begin + bytes(more)))
    tracemalloc.start()
    with pytest.raises(UserError, match=says):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@given(position=st.integers(0, 15), value=st.integers(0, 255), cut=st.integers(0, len(WHOLE)))
def test_any_damage_to_header_or_length_is_detected(tmp_path_factory, position, value, cut):
    content = bytearray(WHOLE[:cut])
    if position < cut:
        content[position] = value
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    if content == WHOLE:
        np.testing.assert_array_equal(read_idx(path, 3), IMAGES)
    else:
        with pytest.raises(UserError):
            read_idx(path, 3)


@pytest.mark.parametrize("sizes", [(3, 0), (3,)])
def test_a_table_of_labels_without_a_column_is_refused(tmp_path, sizes):
    (tmp_path / "labels").write_bytes(struct.pack(f">4B{len(sizes)}I", 0, 0, 12, 2, *sizes))
    with pytest.raises(UserError, match=r"table of labels without a column|fewer bytes"):
        read_idx(tmp_path / "labels", 1)
