"""Every form that digits come in, made by the libraries that people use, is read equal."""

import functools

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import forms
from helpers.digits import same
from helpers.forms import WRITERS, digits, few, refusal
from PIL import Image, ImageDraw

from mnist_jax import Examples, data
from mnist_jax.data.arrays import digest
from mnist_jax.data.pictures import decoded_image
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
    assert (
        "digits.npz has no test images of its own: the last seventh of each class, 90 of 640, is held" in loaded.notice
    )
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
    for _ in ("read", "kept"):
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


def test_headers_of_numpy_s_second_version_are_read(tmp_path):
    train, test = few()
    forms.write_npy(tmp_path, train, test)
    with (tmp_path / "x_train.npy").open("wb") as file:
        np.lib.format.write_array(file, train.images, version=(2, 0))
    assert same(read_arrays(str(tmp_path)).train, train)


def test_pictures_of_one_bit_are_black_and_white():
    image = few()[0].images[0] > 99
    assert (decoded_image(forms.png(image)) == np.where(image, 255, 0)).all()
