"""Which files of a folder are one data set, and what is said of the choice."""

import gzip
import os
import re
import shutil

import numpy as np
import pytest
from helpers import forms, idx_bytes, write_idx_folder
from helpers.digits import TEST, TRAIN, same
from helpers.forms import digits, few, refusal

from mnist_jax import UserError, data
from mnist_jax.data.arrays import digest
from mnist_jax.data.pieces import split_of
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
    with pytest.raises(UserError, match=r"holds the label \d+ for image \d+ .*labels must be 0 to 9"):
        read_arrays(str(tmp_path / "emnist-letters-train-images-idx3-ubyte"))


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_one_of_the_four_files_stands_for_all(tmp_path, file):
    folder = write_idx_folder(tmp_path, *digits())
    assert read_arrays(str(folder / file)).sha256 == digest(*digits())


def test_one_of_kmnist_s_files_stands_for_all(tmp_path):
    path = forms.write_kmnist(tmp_path, *digits()) / "kmnist-train-imgs.npz"
    assert read_arrays(str(path)).sha256 == digest(*digits())


def test_of_several_sets_one_must_be_named(tmp_path):
    for name in ("MNIST", "FashionMNIST"):
        write_idx_folder(tmp_path / name / "raw", TRAIN, TEST)
    says = "several data sets; name one of them, such as .*FashionMNIST/raw/.* or .*MNIST"
    assert re.search(says, refusal(tmp_path))
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


@pytest.mark.parametrize("share", [2, 1_000, 100_000])  # of a file of 600,000 bytes: in a row, in its first line
def test_whole_gzipped_csv_beside_a_cut_short_one_is_used_and_said(tmp_path, share):
    forms.write_csv(tmp_path, *digits())
    whole = (tmp_path / "mnist_train.csv").read_bytes()
    (tmp_path / "mnist_train.csv.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "mnist_train.csv").write_bytes(whole[: len(whole) // share])
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
        (FILES["train"][1], "has no train labels; add them"),
        (FILES["train"][0], "has no train images; add them"),
        (FILES["test"][1], "has no test labels; add them"),
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


def test_a_split_in_several_files_is_refused(tmp_path):
    forms.write_npy(tmp_path, *few())
    np.save(tmp_path / "train_images.npy", few()[0].images)
    files = f"{tmp_path / 'train_images.npy'} and {tmp_path / 'x_train.npy'}"
    for path in (tmp_path, tmp_path / "x_train.npy"):
        assert refusal(path) == f"{files} both hold train images; move one of them away."


@pytest.mark.parametrize("name", ["x.npy", "x_train.npz", "train-images-idx3-ubyte"])
def test_a_file_without_its_labels_is_named(tmp_path, monkeypatch, name):
    images, labels = few()[0]
    monkeypatch.chdir(tmp_path)
    content = idx_bytes(images)
    if name.startswith("x"):
        (np.savez if name.endswith("z") else np.save)(name, images)
    else:
        (tmp_path / name).write_bytes(content)
    for path in (name, "."):
        assert re.fullmatch(rf"{name} has no (train )?labels; add them, or a file of them\.", refusal(path))
    np.save("y_other.npy", labels)  # of another set
    assert re.fullmatch(rf"{name} has no (train )?labels; add them, or a file of them\.", refusal(name))


def test_the_file_whose_values_are_wrong_is_named(tmp_path):
    train, test = few()
    forms.write_npy(tmp_path, train, test)
    np.save(tmp_path / "y_test.npy", test.labels + 5)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'y_test.npy'} holds the label 1")
    np.save(tmp_path / "y_test.npy", test.labels[:19])
    files = f"{tmp_path / 'x_test.npy'} holds 20 test images but {tmp_path / 'y_test.npy'} holds 19 labels"
    assert refusal(tmp_path / "x_train.npy") == f"{files}; every image needs one label."
    np.save(tmp_path / "x_train.npy", np.where(train.images > 250, np.nan, train.images))
    assert refusal(tmp_path).startswith(f"{tmp_path / 'x_train.npy'} holds NaN or infinite values")


def test_names_in_a_file_say_more_than_its_own(tmp_path):
    forms.write_keras(tmp_path, *few()).rename(tmp_path / "training.npz")
    assert same(read_arrays(str(tmp_path)).test, few()[1])


@pytest.mark.parametrize(
    ("name", "split"),
    [("t10k-images", "test"), ("test/train.csv", "train"), ("train-latest", "train"), ("Testing", "test"), ("x", None)],
)
def test_the_last_word_of_a_name_says_the_split(name, split):
    assert split_of(name) == split


def test_a_file_beside_train_and_test_is_refused(tmp_path):
    train, test = digits()
    forms.write_csv(tmp_path, train, test, names=("train.csv", "test.csv"))
    forms.frame(test).to_csv(tmp_path / "x.csv", index=False)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'x.csv'} holds images beside those to train and to test")


def test_another_form_beside_is_left_out_and_that_is_said(tmp_path):
    """As Kaggle has Fashion-MNIST."""
    train, test = few()
    write_idx_folder(tmp_path, train, test)
    forms.write_csv(tmp_path, test, train)
    arrays = read_arrays(str(tmp_path))
    assert same(arrays.train, train)
    assert arrays.notice == f"{tmp_path} holds CSV as well, which is left out."


def test_splits_with_other_names_of_classes_are_refused(tmp_path):
    forms.write_pictures(tmp_path, *few())
    (tmp_path / "testing" / "3").rename(tmp_path / "testing" / "three")
    assert re.search("names its classes as 0, 1, 2, 3, .* and as 0, 1, 2, 4, .*; give both", refusal(tmp_path))


@pytest.mark.parametrize("change", ["another", "none", "empty"])
def test_only_ten_folders_of_pictures_are_taken(tmp_path, change):
    folder = forms.write_pictures(tmp_path, *few()) / "training" / "3"
    if change == "another":
        shutil.copytree(folder, folder.with_name("33"))
        assert "training holds 11 folders of pictures, not ten" in refusal(tmp_path)
    elif change == "none":
        shutil.rmtree(folder)
        assert "training holds 9 folders of pictures, not ten" in refusal(tmp_path)
    else:
        for path in folder.iterdir():
            path.unlink()
        assert np.bincount(read_arrays(str(tmp_path)).train.labels).tolist() == [2, 2, 2, 0, 2, 2, 2, 2, 2, 2]


def test_what_systems_put_beside_pictures_is_no_picture(tmp_path):
    folder = forms.write_pictures(tmp_path, *few())
    for below in (folder, folder / "training", folder / "training" / "3"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
            (below / name).write_bytes(b"x")
    assert same(read_arrays(str(folder)).train, few()[0])


def test_names_of_classes_may_not_steer_a_terminal(tmp_path):
    names = [f"{number}\x1b[31m{'long' * 20}" for number in range(10)]
    arrays = read_arrays(str(forms.write_pictures(tmp_path, *few(), names=names)))
    assert arrays.classes[3] == "3[31m" + "long" * 8 + "lon"


def test_pictures_dark_on_light_are_taken_and_that_is_said(tmp_path):
    train, test = (part._replace(images=255 - part.images) for part in few())
    loaded = data.load(str(forms.write_keras(tmp_path, train, test)), "notebooks")
    assert same(loaded.train, train)
    assert loaded.notice.startswith(
        f"The images of {tmp_path / 'mnist.npz'} are dark on light; MNIST's are light on dark"
    )
    assert data.load(str(write_idx_folder(tmp_path / "idx", *few()))).notice == ""


def test_what_is_not_meant_is_not_looked_into(tmp_path):
    """Loops of links, folders with files' names, pipes, and hidden folders."""
    folder = write_idx_folder(tmp_path / "all" / "raw", *few()).parent
    (folder / "self").symlink_to(folder)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "train-images-idx3-ubyte").mkdir()
    (folder / "x.csv").mkdir()
    os.mkfifo(folder / "mnist.csv")
    write_idx_folder(folder / ".hidden", *few())
    assert same(read_arrays(str(folder)).train, few()[0])
    assert "holds no digits in a known format" in refusal(folder / "x.csv")
    assert "neither a file nor a folder" in refusal(folder / "none")


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
@pytest.mark.parametrize("write", [write_idx_folder, forms.write_csv, forms.write_pictures])
def test_what_may_not_be_looked_at_is_refused(tmp_path, mode, write):
    before = os.geteuid()
    write(tmp_path, *few())
    closed = tmp_path / "training" if write is forms.write_pictures else tmp_path
    closed.chmod(mode)
    if before == 0:  # who may look at everything
        for above in (*tmp_path.parents[:2], *([tmp_path] if closed != tmp_path else [])):
            above.chmod(0o755)
        os.seteuid(65534)
    try:
        assert re.search("Permission denied|may not be read; change its permissions", refusal(tmp_path))
    finally:
        os.seteuid(before)
        closed.chmod(0o755)
