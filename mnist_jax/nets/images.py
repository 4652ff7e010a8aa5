"""A picture of a digit in MNIST's form, and arrays as pictures."""

import base64
import io
import itertools
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from scipy.ndimage import binary_erosion, label

from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import IMAGE_SHAPE

_BOX = 20  # pixels, the longest side of a digit in MNIST
_WORKING_SIZE = 1000  # pixels; a larger picture is first made smaller, since no detail of a digit needs more

_MOST_PIXELS = 50_000_000  # what cameras produce; decoded up to 200 MB, with little overhead
_TILE = 1000  # pixels per side of the tiles in which a large picture is converted

# What turns a picture upright, by EXIF orientation. ImageOps.exif_transpose also rewrites the EXIF, and fails if it is
# damaged.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EMPTY = 0.08  # of the range from black to white: if ink and paper differ by less, the picture is empty
_CONTRAST = 0.25  # of that range: what varies less is all ink or all paper
_UNEVEN = 0.3  # of that range: how far the light may fall off towards an edge
_SPECK = 0.01  # of the area of the largest piece: smaller pieces are no part of the digit
_EDGE = 0.2  # of the range from paper to ink: where a digit begins; below it is what JPEG leaves around strokes


def read_digit(source: Path | bytes) -> np.ndarray:
    """Read a PNG or JPEG picture of one digit, dark on light or light on dark, into MNIST's form.

    Args:
      source: a file, or the bytes of one.

    Returns:
      uint8 `[28, 28]`, as `mnist_form` makes it.

    Raises:
      UserError: the picture cannot be read, is not PNG or JPEG, too large, or empty.
    """
    name = str(source) if isinstance(source, Path) else "The picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd but readable files
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            file = source if isinstance(source, Path) else io.BytesIO(source)
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise Image.DecompressionBombError
                gain = _gain(image)  # first: looking for EXIF in a PNG decodes it
                turn = _TURNS.get(_orientation(image))
                image.draft("L", (_WORKING_SIZE, _WORKING_SIZE))  # decodes no more of a JPEG than is needed
                small = _small(image, gain)
                brightness = _brightness(small if turn is None else small.transpose(turn))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(
            f"{name} has more than {_MOST_PIXELS:,} pixels; make it smaller, a digit needs no more than 28 x 28."
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not a PNG or JPEG picture.") from error
    except Exception as error:  # of many kinds: from the system, or from Pillow for damaged files
        raise UserError(f"{name} cannot be read ({reason(error)}).") from error
    digit = mnist_form(brightness)
    if digit is None:
        raise UserError(f"{name} shows no digit: it is all of one brightness.")
    return digit


def mnist_form(brightness: np.ndarray) -> np.ndarray | None:
    """A digit in MNIST's form: bright on black, its longest side 20 pixels, centred by mass in 28 x 28.

    This is how NIST's digits became MNIST's (LeCun et al. 1998, "Gradient-based learning applied to document
    recognition", section III.A), except that paper and ink must be told apart first: paper is what most of the rim
    shows, allowing for uneven light.

    Args:
      brightness: float32 `[height, width]`, 0 black to 1 white.

    Returns:
      uint8 `[28, 28]`, or None if the picture shows no digit.
    """
    paper = _paper(brightness)
    difference = brightness - paper
    is_dark = -difference.min() > difference.max()
    # Dark ink absorbs a share of the light.
    ink = np.clip(-difference / np.maximum(paper, _EMPTY) if is_dark else difference, 0, None)
    if ink.max() < _EMPTY:
        return None
    grain = 6 * 1.4826 * np.median(np.abs(_rim(difference))) / np.abs(difference).max()  # six standard deviations
    ink = ink / ink.max()
    ink[ink < min(grain, 0.5)] = 0
    ink[_specks(ink > _EDGE)] = 0
    rows, columns = (np.flatnonzero((ink > _EDGE).any(axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = cut.shape
    scale = _BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(cut.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    small = small / small.max()  # a thin stroke in a large picture would be grey
    canvas = np.zeros(IMAGE_SHAPE, np.float32)
    top, left = (_start(small.sum(axis), length) for axis, length in ((1, IMAGE_SHAPE[0]), (0, IMAGE_SHAPE[1])))
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return np.round(255 * canvas).astype(np.uint8)


def _specks(is_ink: np.ndarray) -> np.ndarray:
    """Mask of pieces that are too small to be part of the digit: dust, and the grain of a photograph."""
    pieces, _ = label(is_ink, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # background
    return is_ink & (sizes < _SPECK * sizes.max())[pieces]


def _rim(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _paper(brightness: np.ndarray) -> np.ndarray:
    """The brightness without ink: a plane fitted to the pixels of the rim that are near its median."""
    position = np.indices(brightness.shape).transpose(1, 2, 0) / max(brightness.shape)
    terms = np.concatenate([np.ones((*brightness.shape, 1)), position], -1)
    values, places = _rim(brightness), _rim(terms)
    near = np.abs(values - np.median(values)) <= _UNEVEN * (brightness.max() - brightness.min())
    plane, *_ = np.linalg.lstsq(places[near], values[near], rcond=None)
    return terms @ plane


def _start(mass: np.ndarray, length: int) -> int:
    """Where a digit begins on an axis for its centre of mass to be in the middle, or as near as it fits.

    In MNIST's own files the centre is 0 to 1 pixels right of and below the middle, hence the rounding upwards.
    """
    centre = (mass * (np.arange(len(mass)) + 0.5)).sum() / mass.sum()
    return int(np.clip(math.ceil(length / 2 - centre), 0, length - len(mass)))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of a picture; 1, upright, if missing or damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of many kinds
        return 1


def _gain(image: ImageFile.ImageFile) -> float:
    """Factor that stretches the values of a picture with 16 bits per channel to the full range; 1 for others.

    Scanners and microscopes use 8, 10, 12 or 14 of the bits, so that the picture looks almost black.
    """
    is_grey = image.mode.startswith("I")
    if not is_grey and not any("16B" in str(tile) for tile in image.tile):
        return 1
    extrema = np.atleast_2d(image.getextrema())
    highest = max(high for band, (_, high) in zip(image.getbands(), extrema, strict=True) if band != "A")
    if not is_grey:  # Pillow keeps the upper 8 bits of colours
        if highest == 0:
            raise ValueError("its colours use only the lower 8 of 16 bits; save it with 8")
        highest = 256 * highest + 255
    return next(65_535 / white for white in (2**bits - 1 for bits in (8, 10, 12, 14, 16)) if highest <= white)


def _small(image: Image.Image, gain: float) -> Image.Image:
    """The picture in RGB, or RGBA if parts are transparent, with sides of at most `_WORKING_SIZE`.

    It is converted tile by tile, so that there is no second copy of a large picture, whatever its proportions.
    """
    mode = "RGBA" if image.has_transparency_data else "RGB"
    factor = max(1, max(image.size) // _WORKING_SIZE)
    small = Image.new(mode, (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    side = factor * max(1, _TILE // factor)
    for left, top in itertools.product(range(0, image.width, side), range(0, image.height, side)):
        tile = image.crop((left, top, min(left + side, image.width), min(top + side, image.height)))
        if tile.mode.startswith("I"):
            tile = Image.fromarray(np.rint(np.asarray(tile) * np.float32(gain / 257)).astype(np.uint8))
        small.paste(tile.convert(mode).reduce(factor), (left // factor, top // factor))
    if not image.mode.startswith("I") and gain > 1:
        ramp = [min(255, round(value * gain)) for value in range(256)]
        small = small.point([*ramp * 3, *range(256)][: 256 * len(mode)])
    small.thumbnail((_WORKING_SIZE, _WORKING_SIZE), Image.Resampling.BOX)
    return small


def _brightness(image: Image.Image) -> np.ndarray:
    """float32 `[height, width]`, 0 black to 1 white, of a picture in RGB or RGBA; transparent parts are paper."""
    grey = np.asarray(image.convert("RGB").convert("L"), np.float32) / 255
    if image.mode == "RGB":
        return grey
    alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    shown = alpha > 0.5
    if not shown.any():
        return np.ones_like(grey)
    low, middle, high = np.percentile(grey[shown], [2, 50, 98])
    # With ink on paper, the outline is paper; with ink alone, the paper must differ from it.
    outline = grey[shown & ~binary_erosion(shown)]
    paper = np.median(outline) if high - low > _CONTRAST else float(middle < 0.5)
    return alpha * grey + (1 - alpha) * paper


def png(pixels: np.ndarray) -> bytes:
    """uint8 `[height, width]` or `[height, width, 3]` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def data_url(png: bytes) -> str:
    """A PNG file as a data URL, for pictures within a page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
