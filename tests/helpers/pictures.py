"""Real digits as pictures of many kinds."""

import io

import numpy as np
from PIL import Image


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return file.getvalue()


def large(digit):
    return Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC)


def inverted(digit):
    return Image.fromarray(255 - np.asarray(large(digit)))


def on_transparent(digit, ink):
    shape = large(digit)
    image = Image.new("RGBA", shape.size, (*ink, 0))
    image.putalpha(shape)
    return image


def paper_on_transparent(digit):
    """Ink on a sheet of paper, around which nothing is."""
    image = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    image.paste(inverted(digit).convert("RGBA"), (60, 60))
    return image


def photograph(digit):
    """Unevenly lit, with grain."""
    rng = np.random.default_rng(0)
    light = np.linspace(0.6, 0.95, 280) * (0.25 + 0.75 * np.asarray(inverted(digit)) / 255)
    return Image.fromarray(np.uint8(255 * (light + rng.normal(0, 0.02, light.shape)).clip(0, 1)))


def with_exif_turn(digit):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    return encoded(inverted(digit).rotate(90), "JPEG", exif=exif)


PICTURES = {
    "as it is": lambda digit: encoded(Image.fromarray(digit)),
    "light on dark": lambda digit: encoded(large(digit)),
    "dark on light": lambda digit: encoded(inverted(digit)),
    "colours": lambda digit: encoded(Image.merge("RGB", [inverted(digit), *[Image.new("L", (280, 280), 255)] * 2])),
    "JPEG": lambda digit: encoded(inverted(digit), "JPEG", quality=60),
    "JPEG in CMYK": lambda digit: encoded(inverted(digit).convert("CMYK"), "JPEG"),
    "two colours": lambda digit: encoded(inverted(digit).convert("1", dither=Image.Dither.NONE)),
    "palette": lambda digit: encoded(inverted(digit).convert("P")),
    "palette with a transparent colour": lambda digit: encoded(inverted(digit).convert("P"), transparency=255),
    "16 bits": lambda digit: encoded(Image.fromarray(np.asarray(inverted(digit), np.uint16) * 257)),
    "dark ink, transparent": lambda digit: encoded(on_transparent(digit, (20, 20, 90))),
    "light ink, transparent": lambda digit: encoded(on_transparent(digit, (255, 255, 240))),
    "grey with alpha": lambda digit: encoded(on_transparent(digit, (0, 0, 0)).convert("LA")),
    "paper, transparent around": lambda digit: encoded(paper_on_transparent(digit)),
    "photograph": lambda digit: encoded(photograph(digit), "JPEG", quality=80),
    "pencil": lambda digit: encoded(Image.fromarray(np.uint8(160 + np.asarray(inverted(digit)) // 5))),
    "dust": lambda digit: encoded(with_dust(digit)),
    "a corner of a page": lambda digit: encoded(padded(inverted(digit), (1500, 2000), (900, 40))),
    "turned by EXIF": with_exif_turn,
}


def with_dust(digit):
    """Some specks far away from the digit."""
    page = np.asarray(padded(inverted(digit), (800, 800), (300, 250))).copy()
    for row, column in ((60, 700), (740, 90), (650, 620)):
        page[row : row + 5, column : column + 5] = 60
    return Image.fromarray(page)


def padded(image, size, place):
    page = Image.new("L", size, 255)
    page.paste(image, place)
    return page


WHOLE = encoded(Image.fromarray(np.tri(50, dtype=np.uint8) * 255))
