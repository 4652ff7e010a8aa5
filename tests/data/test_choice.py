"""Which files of a folder are one data set, what is said of the choice, and what is kept."""

import gzip
import shutil

import numpy as np
import pytest
from helpers import forms, idx_bytes, write_idx_folder
from helpers.digits import TEST, TRAIN, same
from helpers.forms import digits

from mnist_jax import UserError, data
from mnist_jax.data import forms as read
from mnist_jax.data.arrays import digest
from mnist_jax.data.sources import read_arrays
from mnist_jax.data.tfds import FILES


def test_of_emnist_s_sets_the_digits_are_taken_and_said(tmp_path):
    train, test = digits()
    for kind in ("digits", "letters", "mnist"):
        labels = train.labels if kind != "letters" else train.labels + 17
        forms.write_idx(
            tmp_path, forms.transposed(train)._replace(labels=labels), forms.transposed(test),
            prefix=f"emnist-{kind}-", parts=("train", "test"),
        )  # fmt: skip
    arrays = read_arrays(str(tmp_path))
    assert arrays.sha256 == digest(train, test)
    assert "several data sets, of which this is emnist-digits" in arrays.notice
    with pytest.raises(UserError, match=r"holds the label \d+; labels must be 0 to 9"):
        read_arrays(str(tmp_path / "emnist-letters-train-images-idx3-ubyte"))


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_one_of_the_four_files_stands_for_all(tmp_path, file):
    folder = write_idx_folder(tmp_path, *digits())
    assert read_arrays(str(folder / file)).sha256 == digest(*digits())


def test_one_of_kmnist_s_files_stands_for_all(tmp_path):
    assert read_arrays(str(forms.write_kmnist(tmp_path, *digits()) / "kmnist-train-imgs.npz")).sha256 == digest(
        *digits()
    )


def test_of_several_sets_one_must_be_named(tmp_path):
    for name in ("MNIST", "FashionMNIST"):
        write_idx_folder(tmp_path / name / "raw", TRAIN, TEST)
    with pytest.raises(
        UserError, match=r"several data sets; name one of them, such as .*FashionMNIST/raw/.* or .*MNIST"
    ):
        read_arrays(str(tmp_path))
    assert read_arrays(str(tmp_path / "MNIST")).train.size == 60


def test_csv_samples_beside_the_whole_are_another_set(tmp_path):
    forms.write_csv(tmp_path, *digits())
    shutil.copy(tmp_path / "mnist_test.csv", tmp_path / "mnist_train_100.csv")
    with pytest.raises(UserError, match="several data sets"):
        read_arrays(str(tmp_path))


def test_digits_at_hand_are_preferred_to_those_below(tmp_path):
    write_idx_folder(tmp_path, TRAIN, TEST)
    write_idx_folder(tmp_path / "raw", TEST, TEST)
    assert same(read_arrays(str(tmp_path)).train, TRAIN)


def cut(content):
    return content[:-9]


@pytest.mark.parametrize("spoil", [cut, lambda content: b"<html>not found</html>", lambda content: b""])
def test_whole_gzip_beside_a_cut_short_file_is_used_and_said(tmp_path, spoil):
    folder = write_idx_folder(tmp_path, TRAIN, TEST)
    plain = folder / FILES["train"][0].removesuffix(".gz")
    plain.write_bytes(spoil(idx_bytes(TRAIN.images)))
    loaded = data.load(str(folder), "notebooks")
    assert same(loaded.train, TRAIN)
    assert loaded.notice.startswith(str(plain))
    assert loaded.notice.endswith(f"so {plain}.gz is read in its place.")
    plain.write_bytes(idx_bytes(TRAIN.images))
    assert data.load(str(folder)).notice == ""
    (folder / FILES["train"][0]).write_bytes(b"")
    assert data.load(str(folder)).notice == ""


def test_whole_gzipped_csv_beside_a_cut_short_one_is_used_and_said(tmp_path):
    forms.write_csv(tmp_path, *digits())
    whole = (tmp_path / "mnist_train.csv").read_bytes()
    (tmp_path / "mnist_train.csv.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "mnist_train.csv").write_bytes(whole[: len(whole) // 2])
    arrays = read_arrays(str(tmp_path))
    assert arrays.sha256 == digest(*digits())
    assert arrays.notice.endswith("mnist_train.csv.gz is read in its place.")


def test_where_both_are_cut_short_the_sentence_is_of_the_first(tmp_path):
    folder = write_idx_folder(tmp_path, TRAIN, TEST)
    packed = folder / FILES["train"][0]
    plain = packed.with_suffix("")
    plain.write_bytes(cut(idx_bytes(TRAIN.images)))
    packed.write_bytes(cut(packed.read_bytes()))
    with pytest.raises(UserError, match=rf"{plain} holds fewer bytes"):
        data.load(str(folder))


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (FILES["train"][1], "lacks train labels to its train images"),
        (FILES["train"][0], "lacks train images to its train labels"),
        (FILES["test"][1], "lacks test labels to its test images"),
    ],
)
def test_a_missing_file_is_named(tmp_path, missing, says):
    folder = write_idx_folder(tmp_path, TRAIN, TEST)
    (folder / missing).unlink()
    with pytest.raises(UserError, match=says):
        read_arrays(str(folder))


def test_without_test_files_the_last_seventh_is_held_out(tmp_path):
    folder = write_idx_folder(tmp_path, forms.whole(*digits()), TEST)
    for name in FILES["test"]:
        (folder / name).unlink()
    arrays = read_arrays(str(folder))
    assert arrays.sha256 == digest(*digits())
    assert "the last seventh, 91 of 640, is held out" in arrays.notice


def test_a_file_beside_train_and_test_is_refused(tmp_path):
    train, test = digits()
    forms.write_csv(tmp_path, train, test, names=("train.csv", "test.csv"))
    forms.frame(test).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(UserError, match="a file beside those to train and to test"):
        read_arrays(str(tmp_path))


# --- what is kept ---


@pytest.mark.parametrize("name", ["CSV", "OpenML's CSV", "Parquet", "pictures", "EMNIST's MATLAB file"])
def test_arrays_are_kept_until_a_file_changes(tmp_path, monkeypatch, name):
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    (tmp_path / "digits").mkdir()
    path = forms.WRITERS[name][0](tmp_path / "digits", *digits())
    first = read_arrays(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(read, "_arrays", lambda _: pytest.fail("read again"))
        again = read_arrays(str(path))
    assert (again.sha256, again.form, again.notice) == (first.sha256, first.form, first.notice)
    file = min((path if path.is_dir() else path.parent).rglob("*.*"), key=lambda file: (file.is_dir(), str(file)))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError):
        read_arrays(str(path))
    file.write_bytes(content)
    assert read_arrays(str(path)).sha256 == first.sha256
    assert len(list((cache / "mnist_jax").glob("*.npz"))) == 1 + (name == "sample")


def test_kept_arrays_of_a_path_replace_the_older_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train, test = digits()
    for part in (test, train, train):
        forms.write_csv(tmp_path, part, test)
        assert same(read_arrays(str(tmp_path)).train, part)
    assert len(list((tmp_path / "cache" / "mnist_jax").iterdir())) == 1


def test_numpy_and_idx_files_keep_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("numpy", "idx"):
        (tmp_path / name).mkdir()
    read_arrays(str(forms.write_keras(tmp_path / "numpy", *digits())))
    read_arrays(str(write_idx_folder(tmp_path / "idx", *digits())))
    assert not (tmp_path / "cache").exists()
    assert np.load(tmp_path / "numpy" / "mnist.npz")["x_train"].dtype == np.uint8
