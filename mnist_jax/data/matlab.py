"""Reader of EMNIST's MATLAB files."""

from pathlib import Path

from mnist_jax.data.pieces import SPLITS, Pieces
from mnist_jax.errors import UserError, reason


def read_matlab(path: Path) -> Pieces:
    """The images and labels of emnist-digits.mat and its like (source: the EMNIST paper, arXiv:1702.05373).

    Raises:
      UserError: it is damaged, or no such file.
    """
    from mnist_jax.data.needed import needed

    io = needed("scipy.io", "MATLAB files")
    try:
        found = io.loadmat(path, simplify_cells=True, variable_names=["dataset"])["dataset"]
        return {f"{split} {what}": found[split][what] for split in SPLITS for what in ("images", "labels")}
    except Exception as error:  # whatever a foreign or damaged file makes SciPy raise
        raise UserError(f"{path} cannot be read as EMNIST's MATLAB file ({reason(error)}); fetch it again.") from error
