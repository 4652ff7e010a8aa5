"""Pictures of digits, answered by trained nets."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import huge
from helpers.pictures import PICTURES, WHOLE, encoded
from PIL import Image

from mnist_jax import data
from mnist_jax.cli import commands as cli
from mnist_jax.nets.images import read_digit
from mnist_jax.nets.trained import probabilities, read_nets

BROKEN = {
    "nothing in it": (b"", "not a PNG or JPEG"),
    "text": (b"seven", "not a PNG or JPEG"),
    "another format": (encoded(Image.new("L", (9, 9)), "GIF"), "not a PNG or JPEG"),
    "cut short": (WHOLE[:60], "cannot be read"),
    "one brightness": (encoded(Image.new("L", (30, 30), 200)), "shows no digit"),
    "all transparent": (encoded(Image.new("RGBA", (30, 30), (9, 9, 9, 0))), "shows no digit"),
    "all but even": (encoded(Image.fromarray(np.uint8(200 + np.arange(100).reshape(10, 10) % 9))), "shows no digit"),
    "one pixel": (encoded(Image.new("L", (1, 1))), "shows no digit"),
    "huge": (huge(), "more than 50,000,000 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_picture_is_refused(toy_ladder, run_main, tmp_path, name):
    content, says = BROKEN[name]
    (tmp_path / "picture.png").write_bytes(content)
    status, out, err = run_main(cli.main, "predict", toy_ladder, tmp_path / "picture.png")
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert "picture.png" in err


@pytest.mark.parametrize("name", ["missing.png", "folder"])
def test_missing_picture_is_refused(toy_ladder, run_main, tmp_path, name):
    (tmp_path / "folder").mkdir()
    status, _, err = run_main(cli.main, "predict", toy_ladder, tmp_path / name)
    assert status == 2
    assert f"{name} cannot be read" in err


def test_predict_prints_digit_and_probabilities(digits_run, digits, run_main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seven, two = Path("seven.png"), Path("two.jpg")
    seven.write_bytes(PICTURES["a corner of a page"](digits[35]))
    two.write_bytes(PICTURES["JPEG"](digits[10]))
    status, out, err = run_main(cli.main, "predict", digits_run, seven, two)
    assert (status, err) == (0, "")
    assert "lesson adam, seed 0, after epoch 2" in " ".join(out.split())
    rows = [line.replace("│", " ").split() for line in out.splitlines() if ".png" in line or ".jpg" in line]
    assert [row[1] for row in rows] == ["7", "2"]
    status, out, _ = run_main(cli.main, "predict", digits_run, seven, two, "--json", "--lesson", "mlp")
    found = json.loads(out)
    assert [(entry["lesson"], entry["seed"]) for entry in found] == [("mlp", 0)] * 2
    assert [entry["image"] for entry in found] == [str(seven), str(two)]
    for entry in found:
        assert len(entry["probabilities"]) == 10
        assert entry["digit"] == np.argmax(entry["probabilities"])
        assert sum(entry["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_pictures_are_recognised_as_well_as_mnist(digits_run):
    """Made large, dark on light and moved, digits are recognised as before."""
    test = data.load("sample").test
    (net,) = read_nets(digits_run, lesson_id="adam")
    pictures = [read_digit(PICTURES["a corner of a page"](image)) for image in test.images[::4]]
    right = [
        (probabilities(net, images).argmax(1) == test.labels[::4]).mean()
        for images in (test.images[::4], np.stack(pictures))
    ]
    assert right[0] > 0.9
    assert right[1] > right[0] - 0.03


def test_predict_needs_a_picture(toy_ladder, run_main):
    status, _, err = run_main(cli.main, "predict", toy_ladder)
    assert status == 2
    assert "Name at least one picture" in err
