"""Decoded digits that are kept in the user's cache folder, and when they are read again."""

import json
import os

import numpy as np
import pytest
from helpers import forms, write_idx_folder
from helpers.digits import same
from helpers.forms import digits, few

from mnist_jax import UserError
from mnist_jax.data import forms as read
from mnist_jax.data.arrays import Arrays, digest
from mnist_jax.data.cache import kept
from mnist_jax.data.sources import read_arrays


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder; the digits that the tests write come from the sample, which is kept too."""
    few()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnist_jax"


@pytest.mark.parametrize("name", ["CSV", "OpenML's CSV", "Parquet", "pictures", "EMNIST's MATLAB file"])
def test_arrays_are_kept_until_a_file_changes(tmp_path, monkeypatch, name, cache):
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
    assert len(list(cache.glob("*.npz"))) == 1


def test_what_another_version_kept_is_no_matter(tmp_path, cache):
    path = str(forms.write_openml(tmp_path, *few()))
    first = read_arrays(path)
    (file,) = cache.iterdir()
    with np.load(file) as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays["about"]))
    for other in ({**about, "more": 1}, {"state": about["state"], "sha256": about["sha256"]}):
        np.savez(file, **arrays | {"about": json.dumps(other)})
        assert read_arrays(path).sha256 == first.sha256


def test_what_other_code_kept_is_read_again(tmp_path, monkeypatch, cache):
    train, test = few()
    path = forms.write_openml(tmp_path, train, test)
    arrays = [Arrays(train, test, digest(train, test), form=form) for form in ("as before", "as now")]
    assert kept(str(path), "", lambda: arrays[0]).form == "as before"
    assert kept(str(path), "", lambda: arrays[1]).form == "as before"
    monkeypatch.setattr("mnist_jax.data.cache.__file__", str(tmp_path / "cache.py"))
    assert kept(str(path), "", lambda: arrays[1]).form == "as now"


def test_kept_arrays_of_a_path_replace_the_older_ones(tmp_path, cache):
    train, test = digits()
    for part in (test, train, train):
        forms.write_csv(tmp_path, part, test)
        assert same(read_arrays(str(tmp_path)).train, part)
    assert len(list(cache.iterdir())) == 1


def test_a_change_of_the_same_size_or_of_what_is_said_is_noticed(tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    train, test = few()
    for part in (train, train._replace(labels=9 - train.labels)):
        forms.write_csv(folder, part, test)
        assert same(read_arrays(str(folder)).train, part)
    forms.frame(test).drop(columns="label").to_csv(folder / "new.csv", index=False)
    assert "new.csv has no labels and is left out" in read_arrays(str(folder)).notice


def test_arrays_of_a_folder_whose_name_is_not_utf8_are_kept(tmp_path, cache):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    assert same(read_arrays(str(forms.write_csv(folder, *few()))).train, few()[0])
    assert len(list(cache.iterdir())) == 1


def test_numpy_and_idx_files_keep_nothing(tmp_path, cache):
    for name in ("numpy", "idx"):
        (tmp_path / name).mkdir()
    read_arrays(str(forms.write_keras(tmp_path / "numpy", *digits())))
    read_arrays(str(write_idx_folder(tmp_path / "idx", *digits())))
    assert not cache.parent.exists()
    assert np.load(tmp_path / "numpy" / "mnist.npz")["x_train"].dtype == np.uint8
