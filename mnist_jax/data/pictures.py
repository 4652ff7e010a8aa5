"""Reader of a folder of pictures, one folder per class, and of single encoded pictures."""

import io
import re
import warnings
from pathlib import Path

import numpy as np

from mnist_jax.data.pieces import Pieces, classes_of
from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE

# How a PNG, JPEG, BMP, GIF, TIFF, WebP or PGM begins; only the first two are read, the others are named where refused.
PICTURE = re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|BM.{4}\0{4}|GIF8|II\*\0|MM\0\*|RIFF.{4}WEBP|P[1-6]\s", re.DOTALL)
_MOST_BYTES = 1 << 20  # of an encoded picture: a few thousand, and what programs write besides the pixels


def count_picture_folders(folder: Path) -> int:
    """In how many of the folders in a folder there are pictures."""
    return sum(map(_begins_with_a_picture, _class_folders(folder)))


def _class_folders(folder: Path) -> list[Path]:
    """The folders in a folder in order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _begins_with_a_picture(folder: Path) -> bool:
    first = next((path for path in folder.iterdir() if _is_shown(path)), None)
    if first is None or not first.is_file():
        return False
    with first.open("rb") as file:
        return bool(PICTURE.match(file.read(16)))


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in ("Thumbs.db", "desktop.ini")


def read_pictures(folder: Path) -> Pieces:
    """The pictures of ten folders, in the order of the numbers in their names: often those in the data set.

    Folders of other names than 0 to 9 are the classes 0 to 9 in the order of their names.

    Raises:
      UserError: there are not ten, or a file in them is not a picture, is in colour, or has another size.
    """
    folders = _class_folders(folder)
    if len(folders) != CLASSES:
        raise UserError(f"{folder} holds {len(folders)} folders of pictures, not ten, one for each class.")
    files = [(path, label) for label, each in enumerate(folders) for path in each.iterdir() if _is_shown(path)]
    files.sort(key=lambda file: (_numbers(file[0].stem), file[0].name, file[1]))
    images = np.empty((len(files), *IMAGE_SHAPE), np.uint8)
    for image, (path, _) in zip(images, files, strict=True):
        try:
            with path.open("rb") as file:
                image[:] = decoded_image(file.read(_MOST_BYTES + 1))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is not a picture of a digit ({reason(error)}); make it a grey PNG of 28 x 28, or move it away."
            ) from error
    labels = np.array([label for _, label in files], np.uint8)
    return {"images": images, "labels": labels, **classes_of([path.name for path in folders])}


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d{1,18}", name)]


def decoded_image(encoded: bytes) -> np.ndarray:
    """The pixels of a PNG or JPEG, uint8 `[28, 28]`.

    Raises:
      ValueError: it is damaged, in colour, or of another size by its header.
    """
    from PIL import Image, UnidentifiedImageError

    if len(encoded) > _MOST_BYTES:
        raise ValueError(f"an image of 28 x 28 pixels has more than {_MOST_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd but readable files
            with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
                size, mode = image.size, image.mode
                if size == IMAGE_SHAPE[::-1]:  # else not decoded: a few bytes can say that they are a gigabyte
                    pixels = np.asarray(image.convert("L"))
            with Image.open(io.BytesIO(encoded)) as image:
                image.verify()  # a PNG's checksums, which decoding does not check
    except UnidentifiedImageError as error:
        raise ValueError("it is damaged, or neither PNG nor JPEG") from error
    except Exception as error:  # whatever a damaged picture makes Pillow raise
        raise ValueError(reason(error)) from error
    if size != IMAGE_SHAPE[::-1]:
        raise ValueError(f"an image is {size[0]} x {size[1]} pixels, not 28 x 28")
    if mode not in ("L", "1"):
        raise ValueError(f"an image is in colour or of another depth ({mode}), not in 8 bits of grey")
    return pixels
