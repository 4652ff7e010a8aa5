import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import (
    PICTURES,
    WHOLE,
    encoded,
    inverted,
    large,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from mnist_jax import UserError, data
from mnist_jax.nets.images import mnist_form, png, read_digit


def likeness(found, digit):
    """Correlation of the pixels."""
    return np.corrcoef(found.ravel(), digit.ravel())[0, 1]


def assert_form(digit):
    """MNIST's: 20 pixels the longer side, and the centre of mass in the middle, as far as the digit fits."""
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    sides = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert digit.shape == (28, 28)
    assert digit.dtype == np.uint8
    assert digit.max() == 255
    assert max(sides) <= 20
    for axis, side in ((1, sides[0]), (0, sides[1])):
        mass = digit.sum(axis, dtype=float)
        centre = (mass * (np.arange(28) + 0.5)).sum() / mass.sum()
        start = np.flatnonzero(mass)[0]
        assert -0.6 <= centre - 14 <= 1.6 or start in (0, 28 - side)


@pytest.mark.parametrize("picture", PICTURES)
def test_any_picture_of_a_digit_is_recovered(digits, picture):
    similar = []
    for digit in digits[::2]:
        found = read_digit(PICTURES[picture](digit))
        assert_form(found)
        similar.append(likeness(found, digit))
    assert np.median(similar) > 0.97
    assert min(similar) > 0.8


def deep_png(channels):
    """A PNG with 16 bits per channel from uint16 `[height, width, 1 to 4]`: Pillow writes only grey ones."""
    height, width, count = channels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4], ids=["grey", "grey with alpha", "colours", "colours with alpha"])
@pytest.mark.parametrize("white", [255, 1023, 4080, 4095, 16383, 65535])
@pytest.mark.parametrize("inverse", [False, True])
def test_16_bit_pictures_may_use_fewer_bits(digits, count, white, inverse):
    for digit in digits[::7]:
        page = (inverted if inverse else large)(digit)
        channels = np.repeat(np.uint16(np.rint(np.asarray(page) / 255 * white))[..., None], count, -1)
        if count in (2, 4):
            channels[..., -1] = 65535
        if white == 255 and count > 1:  # Pillow drops the lower bytes of colours
            with pytest.raises(UserError, match="only the lower 8 of 16 bits"):
                read_digit(deep_png(channels))
        else:
            found = read_digit(deep_png(channels))
            assert_form(found)
            # Of 10-bit colours 2 bits are left.
            assert likeness(found, read_digit(encoded(page))) > (0.9 if white == 1023 and count > 1 else 0.99)


def test_uniform_16_bit_picture_shows_no_digit():
    for value in (0, 3, 4080, 65535):
        with pytest.raises(UserError, match="all of one brightness"):
            read_digit(deep_png(np.full((40, 40, 1), value, np.uint16)))


PEAK = """
import re, sys
from pathlib import Path
from mnist_jax.nets.images import read_digit
peak = lambda: int(re.search("VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
digit = read_digit(Path(sys.argv[1]))
print(digit.max(), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says a process's largest memory there")
@pytest.mark.parametrize(
    ("mode", "size", "form", "options", "megabytes"),
    [
        ("L", (7000, 7000), "PNG", {"compress_level": 1}, 130),
        ("P", (7000, 7000), "PNG", {"compress_level": 1}, 130),
        ("RGBA", (7000, 7000), "PNG", {"compress_level": 1, "turn": 6}, 280),
        ("I;16", (7000, 7000), "PNG", {"compress_level": 1}, 180),
        ("I;16", (7_000_000, 7), "PNG", {"compress_level": 1}, 180),
        ("I;16", (7, 7_000_000), "PNG", {"compress_level": 1}, 180),
        ("L", (49_000_000, 1), "PNG", {"compress_level": 1}, 180),
        ("RGB", (7000, 7000), "JPEG", {"turn": 6}, 100),
    ],
)
def test_large_picture_needs_little_more_memory_than_its_pixels(tmp_path, mode, size, form, options, megabytes):
    page = Image.new("L", size, 255)
    page.paste(20, tuple(round(part * side) for part, side in zip((0.4, 0.2, 0.6, 0.8), size * 2, strict=True)))
    if turn := options.pop("turn", None):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = turn
    page = Image.fromarray(np.asarray(page) * np.uint16(257)) if mode == "I;16" else page.convert(mode)
    page.save(tmp_path / "picture", form, **options)
    command = [sys.executable, "-c", PEAK, tmp_path / "picture"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert said[0] == "255"
    assert float(said[1]) < megabytes


def test_digit_in_mnist_form_is_unchanged(digits):
    for digit in digits:
        found = read_digit(encoded(Image.fromarray(digit)))
        assert likeness(found, digit) > 0.995  # the brightest pixel becomes white


def test_real_digits_have_mnist_form(mnist_folder):
    images = data.load(str(mnist_folder)).test.images[:500]
    same = [likeness(mnist_form(image / np.float32(255)), image) > 0.99 for image in images]
    assert np.mean(same) > 0.98


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 60)), elements=st.floats(0, 1, width=32)))
def test_any_brightness_gives_mnist_form_or_nothing(brightness):
    digit = mnist_form(brightness)
    if digit is not None:
        assert_form(digit)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (40, 4000)])
def test_a_line_of_any_length_fits(shape):
    brightness = np.zeros((shape[0] + 20, shape[1] + 20), np.float32)
    brightness[10:-10, 10:-10] = 1
    digit = mnist_form(brightness)
    assert_form(digit)
    assert digit.any(int(shape[0] < shape[1]) ^ 1).sum() == 20


def with_chunk(kind, content):
    """A PNG with one more chunk, its checksum right."""
    chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    end = WHOLE.index(b"IDAT") - 4
    return WHOLE[:end] + chunk + WHOLE[end:]


def exif_block(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    exif[0x010E] = "a digit"
    return exif.tobytes().removeprefix(b"Exif\0\0")


@given(data=st.data())
def test_any_png_chunk_is_a_digit_or_refused(data):
    kind = data.draw(st.sampled_from([b"eXIf", b"iCCP", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"PLTE", b"gAMA"]))
    content = bytearray(data.draw(st.one_of(st.binary(max_size=60), st.integers(0, 9).map(exif_block))))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 255)), max_size=4)):
        content[place : place + 1] = bytes([value])
    with contextlib.suppress(UserError):
        assert_form(read_digit(with_chunk(kind, bytes(content))))


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_orientation_is_turned_upright(digits, turn):
    """As by Pillow, or not at all if the EXIF is damaged."""
    exif = Image.Exif()
    exif[0x0112] = turn
    content = encoded(inverted(digits[36]), "JPEG", exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = encoded(ImageOps.exif_transpose(image))
    assert likeness(read_digit(content), read_digit(expected)) > 0.99


@given(st.one_of(
    st.binary(max_size=100),
    st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)).map(
        lambda flip: WHOLE[: flip[0]] + bytes([WHOLE[flip[0]] ^ flip[1]]) + WHOLE[flip[0] + 1 :]
    ),
    st.integers(0, len(WHOLE)).map(lambda end: WHOLE[:end]),
))  # fmt: skip
def test_any_bytes_are_a_digit_or_refused(content):
    with contextlib.suppress(UserError):
        assert_form(read_digit(content))


def test_a_png_holds_the_pixels(digits):
    with Image.open(io.BytesIO(png(digits[0]))) as image:
        np.testing.assert_array_equal(np.asarray(image), digits[0])
