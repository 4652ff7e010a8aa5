"""TFDS's data sets in MNIST's form, by name."""

import gzip
import zipfile

import numpy as np
import pytest
from helpers import idx_bytes, write_idx_folder
from helpers.digits import TEST, TRAIN

from mnist_jax import UserError, data
from mnist_jax.data import pictures
from mnist_jax.data import tfds as tfds_mnist


class Downloads:
    """Stands for TFDS's download manager: every address is the file of that name in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def download(self, addresses):
        return [self.folder / address.rpartition("/")[2] for address in addresses]


@pytest.mark.parametrize("name", tfds_mnist.SETS)
def test_sets_of_tfds_are_prepared_by_name(offline, tmp_path, name):
    if name.startswith("emnist/"):
        with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
            files = [
                f"gzip/emnist-{name.partition('/')[2]}-{split}-{what}-ubyte.gz"
                for split in ("train", "test")
                for what in ("images-idx3", "labels-idx1")
            ]
            for file, array in zip(files, (*TRAIN, *TEST), strict=True):
                archive.writestr(file, gzip.compress(idx_bytes(array)))
    else:
        write_idx_folder(tmp_path, TRAIN, TEST)
    made = tfds_mnist.builder(name, tmp_path / "tfds")
    generated = made._split_generators(Downloads(tmp_path))
    for split, expected in (("train", TRAIN), ("test", TEST)):
        _, examples = zip(*generated[split], strict=True)
        assert [example["label"] for example in examples] == expected.labels.tolist()
        images = [pictures.decoded_image(example["image"].getvalue()) for example in examples]
        np.testing.assert_array_equal(images, expected.images)
    with pytest.raises(UserError, match=f"TFDS's {name} cannot be downloaded .*no network"):
        data.load(f"tfds:{name}", data_dir=tmp_path / "tfds")


def test_other_sets_of_tfds_are_refused():
    with pytest.raises(UserError, match=r"Unknown TFDS data set 'emnist/letters'; choose one of: mnist, fashion_mnist"):
        data.load("tfds:emnist/letters")
