"""Reader of a folder of pictures, one folder per class, and of single encoded pictures."""

import io
import re
import warnings
from pathlib import Path

import numpy as np

from mnist_jax.data.pieces import Pieces, classes_of
from mnist_jax.errors import UserError, reason
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE

_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # of PNG and JPEG


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder in order of their names, if in most of ten there are pictures; else []."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return folders if sum(map(_begins_with_a_picture, folders)) > CLASSES // 2 else []


def _begins_with_a_picture(folder: Path) -> bool:
    first = next((path for path in folder.iterdir() if _is_shown(path)), None)
    if first is None or not first.is_file():
        return False
    with first.open("rb") as file:
        return file.read(8).startswith(_BEGINNINGS)


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in ("Thumbs.db", "desktop.ini")


def read_pictures(folder: Path) -> Pieces:
    """The pictures of ten folders, in the order of the numbers in their names: often those in the data set.

    Folders of other names than 0 to 9 are the classes 0 to 9 in the order of their names.

    Raises:
      UserError: there are not ten, or a file in them is no picture, or in colour, or of another size.
    """
    folders = class_folders(folder)
    if len(folders) != CLASSES:
        raise UserError(f"{folder} holds {len(folders)} folders of pictures, not ten, one for each class.")
    files = [(path, label) for label, each in enumerate(folders) for path in each.iterdir() if _is_shown(path)]
    files.sort(key=lambda file: (_numbers(file[0].stem), file[0].name, file[1]))
    images = np.empty((len(files), *IMAGE_SHAPE), np.uint8)
    for image, (path, _) in zip(images, files, strict=True):
        try:
            image[:] = decoded_image(path.read_bytes())
        except Exception as error:  # of many kinds: the system's, Pillow's for damaged files
            raise UserError(f"{path} is not a picture of a digit ({reason(error)}); move it away.") from error
    labels = np.array([label for _, label in files], np.uint8)
    return {"images": images, "labels": labels, **classes_of([path.name for path in folders])}


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d{1,18}", name)]


def decoded_image(encoded: bytes) -> np.ndarray:
    """The pixels of a PNG or JPEG, uint8 `[28, 28]`.

    Raises:
      ValueError: it is in colour, or says that it is of another size.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd but readable files
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            if image.size != IMAGE_SHAPE[::-1]:  # before it is decoded: a few bytes can say that they are a gigabyte
                raise ValueError(f"an image is {image.width} x {image.height} pixels")
            if image.mode not in ("L", "1"):
                raise ValueError(f"an image is in colour or of another depth ({image.mode}), not 8 bits of grey")
            pixels = np.asarray(image.convert("L"))
        with Image.open(io.BytesIO(encoded)) as image:
            image.verify()  # the checksums of a PNG, which decoding does not
    return pixels
