"""The code in docs/data.md works."""

import gzip
import pickle
import re

import numpy as np
import pytest
from helpers import ROOT
from helpers.forms import digits, png, refusal, whole

from mnist_jax.data.arrays import digest
from mnist_jax.data.sources import read_arrays

PAGE = (ROOT / "docs" / "data.md").read_text()
CODE = {
    re.search(r"\w+\.(pkl\.gz|pkl|pt)|digits\.parquet|\{part\}\.pt", code)[0]: code
    for code in re.findall(r"```text\n(.*?)```", PAGE, re.S)
}


def convert(file, folder, monkeypatch):
    assert "docs/data.md says how to convert it" in refusal(folder)
    monkeypatch.chdir(folder)
    exec(CODE[file], {})
    assert read_arrays(str(folder / "mnist.npz")).sha256 == digest(*digits())


@pytest.mark.parametrize("scale", [255, 256])  # which the old file was divided by
def test_the_old_pickle_is_converted(tmp_path, monkeypatch, scale):
    (images, labels), (test_images, test_labels) = digits()
    train, test = (array.reshape(-1, 784).astype(np.float32) / scale for array in (images, test_images))
    content = ((train[:500], labels[:500]), (train[500:], labels[500:]), (test, test_labels))
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps(content)))
    convert("mnist.pkl.gz", tmp_path, monkeypatch)


def test_a_pickled_dictionary_is_converted(tmp_path, monkeypatch):
    train, test = digits()
    names = ("training_images", "training_labels", "test_images", "test_labels")
    (tmp_path / "mnist.pkl").write_bytes(pickle.dumps(dict(zip(names, (*train, *test), strict=True))))
    convert("mnist.pkl", tmp_path, monkeypatch)


def test_parquet_of_one_s_own_is_read(tmp_path, monkeypatch):
    images, labels = whole(*digits())
    monkeypatch.chdir(tmp_path)
    exec(CODE["digits.parquet"], {"pngs": map(png, images), "labels": labels})
    assert read_arrays("digits.parquet").sha256 == digest(*digits())


@pytest.mark.slow
def test_torchvision_s_old_files_are_converted(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    for part, (images, labels) in zip(("training", "test"), digits(), strict=True):
        torch.save((torch.tensor(images), torch.tensor(labels.astype(int))), tmp_path / f"{part}.pt")
    convert("{part}.pt", tmp_path, monkeypatch)
