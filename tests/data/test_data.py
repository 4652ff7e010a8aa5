import dataclasses
import gzip
import shutil

import numpy as np
import pytest
from helpers import idx_bytes, write_idx_folder
from helpers.digits import TEST, TRAIN, same

from mnist_jax import LESSONS, Examples, UserError, data
from mnist_jax.data.arrays import digest
from mnist_jax.data.tfds import FILES

# --- folders ---


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("below", ["", "MNIST/raw", "raw"])
def test_idx_folders(tmp_path, zipped, below):
    write_idx_folder(tmp_path / below, TRAIN, TEST, zipped=zipped)
    loaded = data.load(str(tmp_path), "notebooks")
    assert same(loaded.train, TRAIN)
    assert same(loaded.test, TEST)
    assert loaded.validation is None
    assert loaded.describe() == {
        "name": "not known by name",
        "source": "folder",
        "split": "notebooks",
        "train": 60,
        "validation": 0,
        "test": 20,
        "epoch_length": 60,
        "sha256": digest(TRAIN, TEST),
    }


@pytest.mark.parametrize("name", ["arrays", "sample of mine"])
def test_any_name_of_a_folder_is_a_folder(tmp_path, monkeypatch, name):
    write_idx_folder(tmp_path / name, TRAIN, TEST)
    monkeypatch.chdir(tmp_path)
    assert data.load(name).source == "folder"


def test_the_folder_that_digits_come_from_is_the_user_s_word(tmp_path, monkeypatch):
    """A machine's paths are not in its results unless they were typed."""
    write_idx_folder(tmp_path / "idx" / "MNIST" / "raw", TRAIN, TEST)
    monkeypatch.chdir(tmp_path)
    for named in ("idx", str(tmp_path / "idx")):
        assert str(data.load(named).where) == named


def test_the_sample_and_arrays_come_from_no_folder():
    assert data.load("sample").where is None
    assert data.from_arrays(*TRAIN, *TEST).where is None


@pytest.mark.parametrize("split", data.SPLITS)
def test_arrays_are_split_as_files_are(tmp_path, split):
    loaded = data.from_arrays(*TRAIN, *TEST, split=split)
    from_files = data.load(str(write_idx_folder(tmp_path, TRAIN, TEST)), split)
    assert loaded.describe() == from_files.describe() | {"source": "arrays"}
    assert same(loaded.train, from_files.train)


@pytest.mark.parametrize(
    ("train", "split", "says"),
    [
        (Examples(TRAIN.images[:, 1:], TRAIN.labels), "slides", r"The dataset holds images of shape \(27, 28\)"),
        (Examples(TRAIN.images, TRAIN.labels + 2), "slides", "holds the label 10"),
        (TRAIN, "both", r"'both'.*slides, notebooks"),
    ],
)
def test_arrays_are_checked(train, split, says):
    with pytest.raises(UserError, match=says):
        data.from_arrays(*train, *TEST, split=split)


def test_dotted_names_are_accepted(tmp_path):
    folder = write_idx_folder(tmp_path, TRAIN, TEST, zipped=False)
    for path in folder.iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert data.load(str(folder)).train.size == 55


def test_slides_hold_out_the_last_twelfth(tmp_path):
    loaded = data.load(str(write_idx_folder(tmp_path, TRAIN, TEST)), "slides")
    assert same(loaded.train, Examples(TRAIN.images[:55], TRAIN.labels[:55]))
    assert same(loaded.validation, Examples(TRAIN.images[55:], TRAIN.labels[55:]))
    assert loaded.epoch_length == 55


def spoil(name, content):
    def change(folder):
        (folder / name).write_bytes(content)

    return change


LABELS_OF_11 = TRAIN.labels.copy()
LABELS_OF_11[7] = 11


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "neither a file nor a folder"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no digits in a known format"),
        (lambda folder: (folder / FILES["test"][1]).unlink(), "has no test labels"),
        (spoil(FILES["train"][0], b"x" * 99), "not an IDX file of images"),
        (spoil(FILES["train"][0], gzip.compress(idx_bytes(TRAIN.images)[:-9])), "fewer bytes"),
        (spoil(FILES["train"][0], gzip.compress(idx_bytes(TRAIN.images))[:-9]), "damaged"),
        (
            spoil(FILES["train"][1], idx_bytes(TRAIN.labels[:-1])),
            r"train-images-idx3-ubyte.gz holds 60 train images but \S+train-labels-idx1-ubyte.gz holds 59 labels",
        ),
        (spoil(FILES["train"][1], idx_bytes(LABELS_OF_11)), "the label 11"),
        (spoil(FILES["test"][0], idx_bytes(TEST.images[:, 1:])), r"\(27, 28\), not 28 x 28"),
        (spoil(FILES["train"][0], idx_bytes(TEST.labels)), "not an IDX file of images"),
    ],
)
def test_bad_folder_is_refused(tmp_path, change, says):
    folder = write_idx_folder(tmp_path / "digits", TRAIN, TEST)
    change(folder)
    with pytest.raises(UserError, match=says) as error:
        data.load(str(folder))
    assert "\n" not in str(error.value)


def test_an_empty_split_is_refused(tmp_path):
    nothing = Examples(TEST.images[:0], TEST.labels[:0])
    with pytest.raises(UserError, match="holds no test images; at least one is needed"):
        data.load(str(write_idx_folder(tmp_path, TRAIN, nothing)))


def test_an_unknown_split_lists_the_known(tmp_path):
    with pytest.raises(UserError, match=r"'both'.*slides, notebooks"):
        data.load(str(tmp_path), "both")


def test_real_mnist_from_its_files(mnist_folder):
    slides, notebooks = (data.load(str(mnist_folder), split) for split in data.SPLITS)
    assert slides.name == notebooks.name == "MNIST"
    assert [slides.train.size, slides.validation.size, slides.test.size] == [55_000, 5_000, 10_000]
    assert [notebooks.train.size, notebooks.validation, notebooks.test.size] == [60_000, None, 10_000]
    assert slides.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


# --- the sample ---


@pytest.mark.parametrize(
    ("split", "each", "epoch_length"), [("slides", (400, 50, 50), 55_000), ("notebooks", (450, 0, 50), 60_000)]
)
def test_the_sample_is_balanced_and_fixed(split, each, epoch_length):
    loaded = data.load("sample", split)
    parts = [loaded.train, loaded.validation, loaded.test]
    assert [0 if part is None else part.size for part in parts] == [10 * count for count in each]
    for part, count in zip(parts, each, strict=True):
        assert part is None or np.bincount(part.labels).tolist() == [count] * 10
    assert loaded.name == "sample of MNIST"
    assert loaded.epoch_length == epoch_length
    images = {image.tobytes() for part in parts if part for image in part.images}
    assert len(images) == 5000


def test_auto_falls_back_to_the_sample_and_says_why(offline, tmp_path):
    loaded = data.load("auto", data_dir=tmp_path)
    assert loaded.source == "sample"
    for words in ("NOT all of MNIST", "no network", "mnist-jax data --prepare", "--data PATH"):
        assert words in loaded.notice
    assert "--data sample" not in loaded.notice  # which TFDS's own sentence advises


def test_only_auto_has_a_notice():
    assert data.load("sample").notice == ""


def test_a_last_partial_batch_is_a_step(dataset):
    assert dataset.epoch_length == 66
    assert [dataset.steps(dataclasses.replace(LESSONS["mlp"], batch_size=size)) for size in (32, 33, 66)] == [3, 2, 1]
