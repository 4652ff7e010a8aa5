from pathlib import Path

import pytest

from mnist_jax import UserError
from mnist_jax.cli import digits


@pytest.mark.parametrize(
    ("described", "data", "data_dir", "loaded"),
    [
        ({"source": "folder", "where": "/a"}, None, None, ("/a", None)),
        ({"source": "folder", "where": "/a"}, "/b", None, ("/b", None)),
        ({"source": "folder"}, "/b", None, ("/b", None)),
        ({"source": "folder", "where": "/a"}, "tfds", None, ("tfds", None)),
        ({"source": "folder", "where": "/a"}, "sample", None, ("sample", None)),
        ({"source": "tfds", "where": "/t"}, None, None, ("tfds", Path("/t"))),
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


def test_a_folder_that_an_old_record_does_not_name_is_asked_for():
    with pytest.raises(UserError, match="is not recorded; name their folder with --data"):
        digits.digits_of({"data": {"source": "folder", "split": "slides", "sha256": ""}}, None, None)


def test_tfds_is_looked_for_in_the_folder_that_the_user_names(monkeypatch):
    asked = []
    monkeypatch.setattr(digits.tfds, "prepared_folder", lambda *arguments: asked.append(arguments))
    assert "not prepared" in digits.source_row("tfds", Path("/t"))
    assert asked == [("mnist", Path("/t"))]
