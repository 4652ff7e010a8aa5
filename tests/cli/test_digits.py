from pathlib import Path

import numpy as np
import pytest

from mnist_jax import Examples, UserError
from mnist_jax.cli import digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.mark.parametrize(
    ("described", "data", "data_dir", "loaded"),
    [
        ({"source": "folder", "where": "/a"}, None, None, ("/a", None)),
        ({"source": "folder", "where": "/a"}, "/b", None, ("/b", None)),
        ({"source": "folder"}, "/b", None, ("/b", None)),
        ({"source": "folder", "where": "/a"}, "tfds", None, ("tfds", None)),
        ({"source": "folder", "where": "/a"}, "sample", None, ("sample", None)),
        ({"source": "file", "where": "/a.npz"}, None, None, ("/a.npz", None)),
        ({"source": "tfds", "where": "/t"}, None, None, ("tfds", Path("/t"))),
        ({"source": "tfds:kmnist", "where": "/t"}, None, None, ("tfds:kmnist", Path("/t"))),
        ({"source": "tfds", "where": "/t"}, None, Path("/u"), ("tfds", Path("/u"))),
        ({"source": "tfds", "where": "/t"}, "/b", None, ("/b", Path("/t"))),
        ({"source": "tfds", "where": None}, None, None, ("tfds", None)),
        ({"source": "tfds"}, None, None, ("tfds", None)),
        ({"source": "sample", "where": None}, None, None, ("sample", None)),
        ({"source": "sample", "where": None}, None, Path("/u"), ("sample", Path("/u"))),
    ],
)
def test_digits_are_read_where_the_user_or_the_record_says(dataset, monkeypatch, described, data, data_dir, loaded):
    asked = []
    monkeypatch.setattr(digits, "load_data", lambda *arguments: asked.append(arguments) or dataset)
    results = {"data": {"split": "notebooks", "sha256": dataset.sha256, **described}}
    assert digits.digits_of(results, data, data_dir) is dataset
    assert asked == [(loaded[0], "notebooks", loaded[1])]


def test_old_record_without_folder_needs_data_option():
    with pytest.raises(UserError, match="is not recorded; name their folder with --data"):
        digits.digits_of({"data": {"source": "folder", "split": "slides", "sha256": ""}}, None, None)


def test_other_digits_than_the_run_s_are_refused(dataset, monkeypatch):
    results = {"data": {"source": "sample", "split": "slides", "sha256": "another"}}
    monkeypatch.setattr(digits, "load_data", lambda *_: dataset)
    with pytest.raises(UserError, match="digits of sample are not those of this run; name those with --data"):
        digits.digits_of(results, None, None)


def test_tfds_is_looked_for_in_the_folder_that_the_user_names(monkeypatch):
    asked = []
    monkeypatch.setattr(digits.tfds, "prepared_folder", lambda *arguments: asked.append(arguments))
    assert "not prepared" in digits.source_row("tfds", Path("/t"))
    assert asked == [("mnist", Path("/t"))]


def test_first_digits_are_drawn_as_wide_as_fits():
    image = np.zeros((28, 28), np.uint8)
    image[:4, 2:4] = 200
    image[4, 0] = 255
    examples = Examples(np.stack([image] * 12), np.arange(12) % 10)
    lines = digits.small_pictures(examples, NAMES, 46, dots=True).split("\n")
    assert lines[0].split("  ") == ["\u2800\u28ff" + "\u2800" * 12] * 3
    assert lines[1].split("  ") == ["\u2801" + "\u2800" * 13] * 3
    assert lines[-1].split() == ["zero", "one", "two"]
    assert len(digits.small_pictures(examples, NAMES, 400, dots=True).split("\n")[-1].split()) == 10
    shaded = digits.small_pictures(examples, NAMES, 1, dots=False).split("\n")
    assert [line[:5] for line in shaded[:3]] == ["  ##", "  ##", "="]
    assert shaded[-1].split() == ["zero"]
