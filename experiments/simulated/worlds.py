"""Worlds from which studies are drawn: final runs, image by image or as components, and scores of searches."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats
from scipy.stats import qmc

IMAGES = 10_000
ACCURACY = 0.982
DIFFICULTY = 4.0  # standard deviation of images' latent difficulty


def finals_by_image(
    generator: np.random.Generator, optimizers: int, seeds: int, *, unlike: float, spread: float, lead: float = 0.0
) -> np.ndarray:
    """Which images each run has right, where all optimizers but the first are equal.

    An image is wrong if m + h + g + a + noise < 0, with noise of variance 1, where h belongs to the image, g to the
    image and optimizer, a to the run, and m makes a share of `ACCURACY` right.

    Args:
      generator: random number generator.
      optimizers: number of optimizers.
      seeds: number of runs of each.
      unlike: standard deviation of g; with 0, no image is harder for one optimizer than for another.
      spread: standard deviation of a.
      lead: by how much the first optimizer's accuracy is higher.

    Returns:
      Bool `[optimizers, seeds, IMAGES]`.
    """
    scale = (DIFFICULTY**2 + unlike**2 + 1) ** 0.5
    mean = scale * stats.norm.ppf(ACCURACY)
    easy = mean + DIFFICULTY * generator.standard_normal(IMAGES)
    hard = easy[easy < 4.5 + 3 * unlike]  # easier ones are always right
    latent = generator.standard_normal((optimizers, seeds, len(hard)), dtype=np.float32)
    latent += hard.astype(np.float32)
    latent += unlike * generator.standard_normal((optimizers, 1, len(hard)), dtype=np.float32)
    latent += spread * generator.standard_normal((optimizers, seeds, 1), dtype=np.float32)
    latent[0] += scale * (stats.norm.ppf(ACCURACY + lead) - stats.norm.ppf(ACCURACY))
    right = np.ones((optimizers, seeds, IMAGES), bool)
    right[:, :, : len(hard)] = latent > 0
    return right


def finals_by_component(
    generator: np.random.Generator, optimizers: int, seeds: int, *, spread: float, unlike: float = 0.0
) -> np.ndarray:
    """Normal answers of equal optimizers, float `[optimizers, seeds, 100]`.

    Args:
      generator: random number generator.
      optimizers: number of optimizers.
      seeds: number of runs of each.
      spread: standard deviation of an optimizer's accuracy over seeds.
      unlike: standard deviation of the part of its accuracy that is due to the images, which all its runs share.
    """
    images = 100
    of_runs = spread * generator.standard_normal((optimizers, seeds, 1))
    of_images = unlike * images**0.5 * generator.standard_normal((optimizers, 1, images))
    return of_runs + of_images


def smooth(points: np.ndarray) -> np.ndarray:
    """Accuracy of settings `[n, d]` in the unit cube: a hill, less and less steep from dimension to dimension."""
    steep = 0.03 * 0.5 ** np.arange(points.shape[1])
    return 0.982 - ((points - 0.6) ** 2) @ steep


def cliff(points: np.ndarray) -> np.ndarray:
    """The hill of `smooth` with an edge beyond which training collapses."""
    return np.where(points[:, 0] + 0.2 * points[:, 1] > 0.75, 0.3, smooth(points))


SURFACES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"smooth": smooth, "cliff": cliff}
NOISE = 0.001  # standard deviation of an accuracy over seeds


def settings(generator: np.random.Generator, count: int, dimensions: int, *, sobol: bool = True) -> np.ndarray:
    """Points of the unit cube, `[count, dimensions]`: scrambled Sobol (`count` a power of 2), or independent."""
    if sobol:
        return qmc.Sobol(dimensions, scramble=True, rng=generator).random(count)
    return generator.random((count, dimensions))


def scores(
    generator: np.random.Generator, surface: str, points: np.ndarray, images: int, step: float = 0.0
) -> np.ndarray:
    """Accuracy of one run per setting on this many images, or rounded to a coarser `step`, which makes many equal."""
    found = SURFACES[surface](points) + NOISE * generator.standard_normal(len(points))
    grid = step or 1 / images
    return np.clip(np.rint(found / grid) * grid, 0, 1)
