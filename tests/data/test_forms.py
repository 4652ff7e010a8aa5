"""Every form that digits come in, made by the libraries that people use, is read equal; others are a sentence."""

import functools
import gzip
import io
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import forms, huge, write_idx_folder
from helpers.digits import same
from helpers.forms import WRITERS, digits, few, refusal
from PIL import Image, ImageDraw

from mnist_jax import Examples, UserError, data
from mnist_jax.data.arrays import digest
from mnist_jax.data.sources import read_arrays


@pytest.mark.parametrize("name", WRITERS)
def test_each_form_is_read_equal(tmp_path, name):
    write, form = WRITERS[name]
    arrays = read_arrays(str(write(tmp_path, *digits())))
    assert same(arrays.train, digits()[0])
    assert same(arrays.test, digits()[1])
    assert (arrays.form, arrays.classes) == (form, ())
    assert arrays.sha256 == digest(*digits())
    assert ("last seventh, 91 of 640," in arrays.notice) == (name in ("Kaggle's CSV", "OpenML's CSV", "CSV of floats"))


# --- what each form has of its own ---


def test_a_drawn_7_of_emnist_is_upright(tmp_path):
    seven = Image.new("L", (28, 28))
    ImageDraw.Draw(seven).line([(7, 6), (20, 6), (11, 23)], fill=255, width=3)
    drawn = Examples(np.asarray(seven)[None].repeat(20, 0), np.array([7] * 19 + [1], np.uint8))
    turned = forms.transposed(drawn)
    for folder, write in {
        "idx": functools.partial(forms.write_idx, prefix="emnist-digits-", parts=("train", "test")),
        "csv": functools.partial(forms.write_csv, names=("emnist-digits-train.csv", "emnist-digits-test.csv")),
    }.items():
        (tmp_path / folder).mkdir()
        upright = data.load(str(write(tmp_path / folder, turned, turned))).train.images[0]
        assert upright[6, 8:20].min() == 255, f"its bar does not lie:\n{upright}"
        assert [int(row.nonzero()[0].mean()) for row in upright[[10, 14, 18, 22]]] == [18, 16, 14, 12]  # its leg leans


@pytest.mark.parametrize("name", ["emnist.npz", "emnist-train.parquet", "emnist-train", "femnist.csv"])
def test_other_forms_of_emnist_are_upright_as_they_are(tmp_path, name):
    """Programs turn the images when they write them; FEMNIST is another data set."""
    write = {
        "emnist.npz": forms.write_keras,
        "emnist-train.parquet": forms.write_parquet,
        "emnist-train": forms.write_pictures,
        "femnist.csv": forms.write_openml,
    }[name]
    path = write(tmp_path, *few())
    inside = {"emnist-train.parquet": "mnist/train-*", "emnist-train": "training"}
    path = next(path.glob(inside[name])) if name in inside else path
    read = read_arrays(str(path.rename(tmp_path / name))).train
    assert (read.images[0] == few()[0].images[0]).all()


@pytest.mark.parametrize("name", ["train.csv", "train-00000-of-00001.parquet"])
def test_of_a_named_file_the_last_seventh_is_held_out(tmp_path, name):
    (forms.write_kaggle_csv if name == "train.csv" else forms.write_parquet)(tmp_path, *digits())
    (path,) = tmp_path.rglob(name)
    arrays = read_arrays(str(path))
    size = arrays.train.size + arrays.test.size
    assert arrays.test.size == size // 7
    assert f"the last seventh, {size // 7} of {size}, is held out" in arrays.notice
    loaded = data.load(str(path))
    assert (loaded.source, loaded.where, loaded.notice) == ("file", path, arrays.notice)


def test_where_classes_are_sorted_the_last_seventh_of_each_is_held_out(tmp_path):
    images, labels = forms.whole(*digits())
    order = np.argsort(labels, kind="stable")
    np.savez(tmp_path / "digits.npz", x=images[order], y=labels[order])
    loaded = data.load(str(tmp_path / "digits.npz"))
    assert np.bincount(loaded.test.labels).tolist() == [9] * 10
    assert np.bincount(loaded.validation.labels).tolist() == [4] * 10


def test_unlabelled_csv_of_kaggle_is_said_to_be_left_out(tmp_path):
    forms.write_kaggle_csv(tmp_path, *few())
    assert "test.csv has no labels and is left out." in read_arrays(str(tmp_path)).notice
    assert "784 columns of pixels but none of labels" in refusal(tmp_path / "test.csv")


def test_parquet_in_parts_is_one(tmp_path):
    forms.write_parquet(tmp_path, *digits())
    (path,) = tmp_path.rglob("train-*")
    table = pq.read_table(path)
    path.unlink()
    for part in range(2):
        pq.write_table(table.slice(300 * part, 300), path.with_name(f"train-0000{part}-of-00002.parquet"))
    assert read_arrays(str(tmp_path)).sha256 == digest(*digits())


NAMES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


def test_classes_have_the_names_that_a_form_gives_them(tmp_path):
    train, test = few()
    forms.write_parquet(tmp_path, train, test, "parquet", names=NAMES)
    parquet = data.load(str(tmp_path / "parquet"))
    assert parquet.classes == tuple(NAMES)
    assert parquet.describe()["classes"] == NAMES
    folder = forms.write_pictures(tmp_path / "pictures", train, test, names=sorted(NAMES))
    assert read_arrays(str(folder)).classes == tuple(sorted(NAMES))


def test_fashion_mnist_has_names(tmp_path, monkeypatch):
    train, test = few()
    monkeypatch.setitem(data.arrays.KNOWN, digest(train, test), "Fashion-MNIST")
    made = data.from_arrays(*train, *test)
    assert (made.name, made.classes[1]) == ("Fashion-MNIST", "trouser")
    assert read_arrays(str(forms.write_keras(tmp_path, train, test))).classes == made.classes


@pytest.mark.parametrize("labels", [np.float32, np.int64, "U1", "S3", object])
@pytest.mark.parametrize("shape", [(-1, 28, 28), (-1, 784), (-1, 28, 28, 1), (-1, 1, 28, 28)])
def test_labels_and_images_of_many_types_are_taken(labels, shape):
    train, test = few()
    images = train.images.reshape(shape).astype(np.int32 if labels is object else np.float64)
    made = data.from_arrays(images, train.labels.astype(labels), *test, split="notebooks")
    assert same(made.train, train)


def test_arrays_may_lie_columns_first(tmp_path):
    train, test = few()
    forms.write_keras(tmp_path, Examples(np.asfortranarray(train.images), train.labels), test)
    assert same(read_arrays(str(tmp_path)).train, train)


# --- what is refused ---


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
        "holds the label 10; labels must be 0 to 9, .*digits or mnist",
    ),
    "half labels": ({"y_train": np.full(20, 0.5)}, "holds the label 0.5"),
    "labels that are names": (
        {"y_train": np.full(20, "cat")},
        r"no numbers \(could not convert string to float: 'cat'",
    ),
    "no number as label": ({"y_train": np.full(20, np.nan)}, "holds the label nan"),
    "colour": ({"x_train": np.zeros((20, 32, 32, 3), np.uint8)}, r"images of shape \(32, 32, 3\) in colour"),
    "another size": ({"x_train": np.zeros((20, 32, 32), np.uint8)}, r"images of shape \(32, 32\), not 28 x 28"),
    "scaled": ({"x_train": IMAGES / 255}, "values from 0 to 0.1.* multiply them by 255 and round"),
    "black and white": ({"x_train": IMAGES // 27}, "values from 0 to 1, not the whole numbers 0 to 255"),
    "not whole": ({"x_train": IMAGES + 0.5}, "values from 0.5 to 27.5, not the whole numbers 0 to 255"),
    "negative": ({"x_train": IMAGES.astype(int) - 1}, "values from -1 to 26, not the whole numbers 0 to 255"),
    "nan": ({"x_train": np.where(IMAGES, IMAGES, np.nan)}, "values from nan to nan"),
    "large": ({"x_train": IMAGES.astype(int) * 99}, "values from 0 to 2673, not the whole numbers 0 to 255"),
    "one class": ({"y_train": np.full(20, 3)}, "gives all training images the label 3; check which file or column"),
    "one-hot labels": ({"y_train": np.eye(10)[:20].repeat(2, 0)}, "several arrays of train images; .*one number per"),
    "truth values": ({"x_train": IMAGES > 3}, "images of bool"),
    "too few labels": ({"y_train": np.zeros(19)}, "20 images but 19 labels"),
    "arrays of one kind": ({"x_train_2": IMAGES}, "several arrays of train images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_images_and_labels_are_refused(tmp_path, name):
    changes, says = REFUSED[name]
    path = tmp_path / "mnist.npz"
    path.write_bytes(spoilt(**changes))
    with pytest.raises(UserError, match=says):
        read_arrays(str(path))


PICKLES = {
    "mnist.pkl.gz": gzip.compress(b"\x80\x02csys\nexit\n."),
    "old.pkl": b"csys\nexit\n(tR.",
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
    assert "Python objects, which are never unpickled" in refusal(tmp_path / "mnist.npz")


def test_a_zip_archive_is_to_be_unpacked(tmp_path):
    write_idx_folder(tmp_path / "archive", *few())
    path = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "archive")
    assert refusal(path).endswith("is a zip archive; unpack it and name the folder.")


@pytest.mark.parametrize(
    "content", [b"", b"a letter\nto a friend\n", b"a,b,c\n1,2,3\n", bytes(999), b"\x89PNG\r\n\x1a\n"]
)
@pytest.mark.parametrize("name", ["notes", "notes.txt"])
def test_anything_else_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "no digits in a form that is known here" in refusal(tmp_path)
    assert "no digits in a form that is known here" in refusal(tmp_path / name)


@pytest.mark.parametrize("columns", [784 + 2, 32 * 32 + 1, 100])
def test_csv_of_other_columns_is_refused(tmp_path, columns):
    pd.DataFrame(np.zeros((3, columns), int)).to_csv(tmp_path / "x.csv", index=False, header=False)
    assert f"has lines of {columns:,} values, not of a label and 28 x 28 pixels" in refusal(tmp_path / "x.csv")


def test_parquet_of_other_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "x.parquet")
    assert "has the columns text, label, not `image.bytes` and `label`" in refusal(tmp_path)


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
