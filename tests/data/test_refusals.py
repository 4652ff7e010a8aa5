"""Files and folders that hold no digits, or others than were expected, are refused with the cause and a way out."""

import gzip
import io
import os
import re
import shutil
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ROOT, forms, huge, write_idx_folder
from helpers.forms import few, refusal
from PIL import Image

from mnist_jax import UserError
from mnist_jax.data.sources import read_arrays


def spoilt(**changes):
    """20 digits as Keras's npz has them, with other arrays."""
    train, test = few()
    content = io.BytesIO()
    arrays = {"x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels}
    np.savez(content, **arrays | changes)
    return content.getvalue()


def pickled():
    content = io.BytesIO()
    np.savez(content, x_train=np.array([pytest.fail], object), y_train=np.zeros(1))
    return content.getvalue()


IMAGES = np.tile(np.arange(28, dtype=np.uint8), (20, 28, 1))
REFUSED = {
    "letters of EMNIST": (
        {"y_train": np.arange(20) + 7},
        "holds the label 10 for image 3 .*; labels must be 0 to 9, .*digits or mnist",
    ),
    "half labels": ({"y_train": np.full(20, 0.5)}, "holds the label 0.5"),
    "labels that are names": ({"y_train": np.full(20, "cat")}, "holds the label 'cat' for image 0"),
    "no number as label": ({"y_train": np.full(20, np.nan)}, "holds the label nan"),
    "colour": ({"x_train": np.zeros((20, 32, 32, 3), np.uint8)}, r"images of shape \(32, 32, 3\) in colour"),
    "another size": ({"x_train": np.zeros((20, 32, 32), np.uint8)}, r"images of shape \(32, 32\), not 28 x 28"),
    "scaled": ({"x_train": IMAGES / 255}, "values from 0 to 0.1.* multiply them by 255 and round"),
    "black and white": ({"x_train": IMAGES // 27}, "values from 0 to 1, not the whole numbers 0 to 255"),
    "not whole": ({"x_train": IMAGES + 0.5}, "values from 0.5 to 27.5, not the whole numbers 0 to 255; round them"),
    "negative": (
        {"x_train": IMAGES.astype(int) - 1},
        "values from -1 to 26, not the whole numbers 0 to 255; shift, scale",
    ),
    "nan": ({"x_train": np.where(IMAGES, IMAGES, np.nan)}, "NaN or infinite values, first in image 0 .*; replace them"),
    "large": (
        {"x_train": IMAGES.astype(int) * 99},
        "values from 0 to 2673, not the whole numbers 0 to 255; scale and round",
    ),
    "one class": ({"y_train": np.full(20, 3)}, "gives all training images the label 3; check which file or column"),
    "one-hot labels": (
        {"y_train": np.eye(10)[:20].repeat(2, 0)},
        r"labels of shape \(20, 10\), not one number .*; if they are one-hot, labels.argmax\(1\)",
    ),
    "truth values": ({"x_train": IMAGES > 3}, "images of type bool, .*; convert them"),
    "too few labels": ({"y_train": np.zeros(19)}, "20 train images but 19 labels; every image needs one"),
    "one-hot labels of letters": ({"y_train": np.eye(62)[:20]}, r"labels of shape \(20, 62\)"),
    "small images": ({"x_train": np.zeros((20, 64))}, r"images of shape \(64,\), not 28 x 28"),
    "small square images": ({"x_train": np.zeros((20, 7, 7))}, r"images of shape \(7, 7\), not 28 x 28"),
    "truth values as labels": ({"y_train": np.arange(20) > 9}, "labels of type bool, .*; convert them"),
    "no images": ({"x_train": IMAGES[:0], "y_train": np.zeros(0)}, "holds no train images"),
    "a value left out": ({"x_test": np.where(IMAGES < 27, IMAGES, np.inf)}, "infinite values, first in image 0"),
    "a single value": ({"seed": np.array(3)}, "a single value beside its arrays; save it again"),
    "arrays of one kind": ({"x_train_2": IMAGES}, "several arrays of train images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_images_and_labels_are_refused(tmp_path, name):
    changes, says = REFUSED[name]
    path = tmp_path / "mnist.npz"
    path.write_bytes(spoilt(**changes))
    for named in (path, tmp_path):
        said = refusal(named)
        assert said.startswith(f"{path} ")
        assert re.search(says, said)


PICKLES = {
    "mnist.pkl.gz": gzip.compress(b"\x80\x02csys\nexit\n."),
    "the newest.npz": b"\x80\x05csys\nexit\n.",
    **dict.fromkeys(("old.pkl", "old.pickle", "old.pt", "old.pth"), b"csys\nexit\n(tR."),
    "named otherwise.npz": b"\x80\x04csys\nexit\n.",
    "training.pt": None,
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("below", [False, True])
def test_pickles_are_not_opened(tmp_path, name, below):
    path = tmp_path / name
    if PICKLES[name] is None:  # as torch.save writes it
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("training/data.pkl", b"csys\nexit\n(tR.")
    else:
        path.write_bytes(PICKLES[name])
    said = refusal(tmp_path if below else path)
    assert f"{path} is a pickle, which can run any code" in said
    assert "docs/data.md" in said


def test_objects_in_numpy_s_files_are_not_unpickled(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(pickled())
    assert "Python objects, which are never unpickled here; save it again with arrays of numbers" in refusal(tmp_path)


def test_a_zip_archive_is_to_be_unpacked(tmp_path):
    write_idx_folder(tmp_path / "archive", *few())
    path = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "archive")
    assert refusal(path).endswith("is an archive, or compressed; unpack it and name what was in it.")


TABLE = forms.frame(few(8)[0])
# Name -> what makes it, and what is said of it.
OTHERS = {
    "digits.tsv": (lambda path: TABLE.to_csv(path, sep="\t"), "replace other separators, such as tabs"),
    "digits.txt": (lambda path: np.savetxt(path, TABLE.values), "replace other separators, such as tabs"),
    "semicolons.csv": (lambda path: TABLE.to_csv(path, sep=";"), "replace other separators, such as tabs"),
    **{
        f"7.{end}": (lambda path: Image.fromarray(few()[0].images[0]).save(path), "single picture; .*ten folders")
        for end in ("png", "jpg", "bmp", "gif", "tif", "webp", "pgm")
    },
    "mnist.tar.gz": (lambda path: tarfile.open(path, "w:gz").close(), "archive, or compressed; unpack it"),
    "mnist.tar.xz": (lambda path: tarfile.open(path, "w:xz").close(), "archive, or compressed; unpack it"),
    "mnist.csv.bz2": (lambda path: TABLE.to_csv(path), "archive, or compressed; unpack it"),
    "mnist.7z": (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c"), "archive, or compressed; unpack it"),
    "mnist.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "HDF5 file; save its arrays with numpy.savez"),
    "mnist.html": (lambda path: path.write_text("\n<!DOCTYPE html>"), "is a web page; fetch the file again"),
    "link": (lambda path: path.symlink_to("nowhere"), "a link to something that does not exist"),
    "loop": (lambda path: path.symlink_to(path), "a link to something that does not exist"),
    "mnist.csv": (os.mkfifo, "a pipe or a device; save its content in a file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_named_with_its_cause(tmp_path, name):
    make, says = OTHERS[name]
    make(tmp_path / name)
    if name == "mnist.tar.gz":
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            archive.add(ROOT / "README.md")
    for path in (tmp_path / name, tmp_path):
        said = refusal(path)
        assert said.startswith(f"{tmp_path / name} ")
        assert re.search(says, said)


@pytest.mark.parametrize("name", ["", "notes", "x_train.npz", "x_train.npy", "old.pkl", "mnist.zip", "mnist.csv.gz"])
def test_an_empty_file_is_said_to_be_empty(tmp_path, name):
    path = tmp_path / (name or "train-images-idx3-ubyte")
    path.touch()
    assert refusal(path) == f"{path} is empty; fetch it again."


def test_pictures_of_another_format_are_to_be_converted(tmp_path):
    folder = forms.write_pictures(tmp_path, *few())
    for path in folder.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    for path in (folder, folder / "training"):
        assert re.search(
            r"\.bmp is not a picture .* neither PNG nor JPEG\); make it a grey PNG of 28 x 28", refusal(path)
        )


def test_too_few_folders_of_pictures_are_refused(tmp_path):
    folder = forms.write_pictures(tmp_path, *few()) / "training"
    shutil.rmtree(folder.with_name("testing"))
    for name in "0123":
        shutil.rmtree(folder / name)
    assert "training holds 6 folders of pictures, not ten" in refusal(folder)
    shutil.rmtree(folder / "4")
    assert refusal(tmp_path) == f"{folder} holds fewer than ten folders of pictures; one for each class is needed."


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([2, 1, 0], "(3): the last seventh is held out for testing, which takes at least 7."),
        ([5, 4, 3, 2, 1, 0], "(6): the last seventh is held out for testing, which takes at least 7."),
        ([4], "(1): the last seventh of each class is held out for testing, which takes at least 7 of a class."),
        ([3] * 6 + [4] * 6, "(12): the last seventh of each class is held out for testing, which takes at least 7 of"),
    ],
)
def test_too_few_images_to_hold_out_some_are_refused(tmp_path, labels, says):
    np.savez(tmp_path / "digits.npz", x=few()[0].images[: len(labels)], y=labels)
    assert f"digits.npz holds too few images {says}" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"a letter\nto a friend\n", b"word " * 699, b"a,b,c\n1,2,3\n", bytes(999), b"BMI,age\n21,40\n"]
)
@pytest.mark.parametrize("name", ["notes", "notes.txt"])
def test_anything_else_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "no digits in a known format" in refusal(tmp_path)
    assert "no digits in a known format" in refusal(tmp_path / name)


@pytest.mark.parametrize("columns", [784 + 2, 32 * 32 + 1, 100])
def test_csv_of_other_columns_is_refused(tmp_path, columns):
    pd.DataFrame(np.zeros((3, columns), int)).to_csv(tmp_path / "x.csv", index=False, header=False)
    assert f"has lines of {columns:,} values, not of a label and 28 x 28 pixels" in refusal(tmp_path / "x.csv")


def test_parquet_of_other_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "x.parquet")
    assert "has the columns text, label, not `image.bytes` and `label`; write a column `image` with" in refusal(
        tmp_path
    )
    pq.write_table(pa.table({f"pixel{number}": [0] for number in range(784)}), tmp_path / "x.parquet")
    assert re.search(r"x\.parquet has the columns pixel0, pixel1, .*, pixel\d+, …, not `image", refusal(tmp_path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (huge(), "exceeds limit|30000 x 30000 pixels"),
        (huge(27), "27 x 27 pixels"),
        (forms.png(np.zeros((28, 28, 3), np.uint8)), r"in colour or of another depth \(RGB\)"),
        (forms.png(np.zeros((28, 28), np.uint16)), r"another depth \(I;16\)"),
        (forms.png(np.zeros((28, 28), np.uint8)) + bytes(1 << 20), "more than 1,048,576 bytes"),
        (forms.png(np.zeros((28, 28), np.uint8))[:45], "not a picture of a digit"),
        (b"", "damaged, or neither PNG nor JPEG"),
    ],
)
def test_a_bad_picture_is_named(tmp_path, content, says):
    folder = forms.write_pictures(tmp_path, *few())
    (folder / "training" / "9" / ".DS_Store").write_bytes(b"x")
    (folder / "training" / "9" / "999.png").write_bytes(content)
    with pytest.raises(UserError, match=rf"999\.png is not a picture of a digit \(.*{says}|{says}"):
        read_arrays(str(folder))
