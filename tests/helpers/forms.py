"""The same 640 real digits in every form that people have, each written by the library that people use for it."""

import functools
import gzip
import io
import json
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from helpers import idx_bytes, write_idx_folder
from mnist_jax import Examples, UserError, data
from mnist_jax.data.arrays import rank_in_class
from mnist_jax.data.sources import read_arrays


@functools.cache
def digits():
    """549 and 91 of the sample, all classes mixed: the last seventh of the 640 is the test split."""
    train = data.load("sample", "notebooks").train
    order = np.lexsort((train.labels, rank_in_class(train.labels)))[:640]
    images, labels = train.images[order], train.labels[order]
    return Examples(images[:549], labels[:549]), Examples(images[549:], labels[549:])


def few(count=20):
    return tuple(Examples(part.images[:count], part.labels[:count]) for part in digits())


def refusal(path):
    """The sentence with which a path is refused."""
    with pytest.raises(UserError) as error:
        read_arrays(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def largest(path):
    """The largest file of a form."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


def whole(train, test):
    return Examples(*(np.concatenate(pair) for pair in zip(train, test, strict=True)))


def transposed(examples):
    """As NIST stores EMNIST."""
    return Examples(np.ascontiguousarray(examples.images.swapaxes(1, 2)), examples.labels)


def png(image, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


def write_idx(folder, train, test, prefix="", labels="labels-idx1-ubyte", parts=("train", "t10k"), pack=gzip.compress):
    for part, examples in zip(parts, (train, test), strict=True):
        (folder / f"{prefix}{part}-images-idx3-ubyte").write_bytes(pack(idx_bytes(examples.images)))
        table = idx_bytes(examples.labels)
        if "idx2" in labels:  # QMNIST's: class, and seven more of what NIST knew of the writer
            rows = np.zeros((examples.size, 8), ">i4")
            rows[:, 0], rows[:, 1:] = examples.labels, 4321
            table = struct.pack(">4B2I", 0, 0, 0x0C, 2, *rows.shape) + rows.tobytes()
        (folder / f"{prefix}{part}-{labels}").write_bytes(pack(table))
    return folder


def frame(examples, pixel="pixel{}", label="label", last=False):
    """Columns as Kaggle has them, or OpenML."""
    pixels = pd.DataFrame(examples.images.reshape(-1, 784), columns=[pixel.format(i) for i in range(784)])
    pixels.insert(784 if last else 0, label, examples.labels)
    return pixels


def write_kaggle_nested(folder, train, test):
    for path in list(write_idx_folder(folder, train, test, zipped=False).iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        (path / path.name).write_bytes(content)
    return folder


def write_keras(folder, train, test, save=np.savez_compressed):
    save(folder / "mnist.npz", x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    return folder / "mnist.npz"


def write_kmnist(folder, train, test):
    for part, examples in (("train", train), ("test", test)):
        np.savez_compressed(folder / f"kmnist-{part}-imgs.npz", examples.images)
        np.savez_compressed(folder / f"kmnist-{part}-labels.npz", examples.labels)
    return folder


def write_npy(folder, train, test):
    for part, examples in (("train", train), ("test", test)):
        np.save(folder / f"x_{part}.npy", examples.images[..., None].astype(np.float32))
        np.save(folder / f"y_{part}.npy", examples.labels[:, None].astype(np.int64))
    return folder


def write_csv(folder, train, test, names=("mnist_train.csv", "mnist_test.csv"), header=True, **options):
    for name, examples in zip(names, (train, test), strict=True):
        frame(examples, "{}x").to_csv(folder / name, index=False, header=header, **options)
    return folder


def write_kaggle_csv(folder, train, test):
    frame(whole(train, test)).to_csv(folder / "train.csv", index=False)
    frame(test).drop(columns="label").to_csv(folder / "test.csv", index=False)
    pd.DataFrame({"ImageId": range(1, 92), "Label": 0}).to_csv(folder / "sample_submission.csv", index=False)
    return folder


def write_openml(folder, train, test, kind=np.uint8):
    columns = frame(whole(train, test), "pixel{}", "class", last=True).astype(kind)
    columns.to_csv(folder / "mnist_784.csv", index=False)
    return folder / "mnist_784.csv"


def write_parquet(folder, train, test, below="mnist", names=None):
    (folder / below).mkdir()
    label = {"names": names or list(map(str, range(10))), "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}})}
    for part, examples in (("train", train), ("test", test)):
        images = [{"bytes": png(image), "path": None} for image in examples.images]
        table = pa.table({"image": images, "label": examples.labels.astype(np.int64)})
        path = folder / below / f"{part}-00000-of-00001.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), path)
    return folder


def write_pictures(folder, train, test, parts=("training", "testing"), names=tuple("0123456789")):
    for part, examples in zip(parts, (train, test), strict=True):
        for number, (image, label) in enumerate(zip(*examples, strict=True)):
            path = folder / part / names[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    return folder


def write_matlab(folder, train, test):
    parts = {
        part: {"images": transposed(examples).images.reshape(-1, 784), "labels": examples.labels[:, None]}
        for part, examples in (("train", train), ("test", test))
    }
    mapping = np.stack([np.arange(10), np.arange(48, 58)], 1)
    savemat(folder / "emnist-digits.mat", {"dataset": {**parts, "mapping": mapping}}, do_compression=True)
    return folder / "emnist-digits.mat"


def in_folder(*names, write=write_idx, **options):
    def writer(folder, train, test):
        below = folder.joinpath(*names)
        below.mkdir(parents=True)
        write(below, train, test, **options)
        return folder

    return writer


def emnist(write, **options):
    return lambda folder, train, test: write(folder, transposed(train), transposed(test), **options)


# What people have, each with the form that it is said to be.
WRITERS = {
    "four IDX files": (write_idx_folder, "IDX files"),
    "not gzipped": (functools.partial(write_idx_folder, zipped=False), "IDX files"),
    "gzipped without .gz": (write_idx, "IDX files"),
    "MNIST/raw": (in_folder("MNIST", "raw"), "IDX files"),
    "FashionMNIST/raw": (in_folder("FashionMNIST", "raw"), "IDX files"),
    "one level below": (in_folder("archive"), "IDX files"),
    "Kaggle's nesting": (write_kaggle_nested, "IDX files"),
    "EMNIST/raw": (
        in_folder("EMNIST", "raw", write=emnist(write_idx, prefix="emnist-digits-", parts=("train", "test"))),
        "IDX files",
    ),
    "QMNIST/raw": (
        in_folder("QMNIST", "raw", prefix="qmnist-", labels="labels-idx2-int", parts=("train", "test")), "IDX files",
    ),
    "EMNIST's MATLAB file": (write_matlab, "EMNIST's MATLAB file"),
    "Keras's npz": (write_keras, "numpy's arrays"),
    "npz, not packed": (functools.partial(write_keras, save=np.savez), "numpy's arrays"),
    "kmnist's npz": (write_kmnist, "numpy's arrays"),
    "npy": (write_npy, "numpy's arrays"),
    "CSV": (write_csv, "CSV"),
    "CSV without header": (functools.partial(write_csv, header=False), "CSV"),
    "CSV, gzipped": (
        functools.partial(write_csv, names=("train.csv.gz", "test.csv.gz"), compression="gzip"), "CSV",
    ),
    "EMNIST's CSV": (
        emnist(write_csv, names=("emnist-digits-train.csv", "emnist-digits-test.csv"), header=False), "CSV",
    ),
    "Kaggle's CSV": (write_kaggle_csv, "CSV"),
    "OpenML's CSV": (write_openml, "CSV"),
    "CSV of floats": (functools.partial(write_openml, kind=np.float64), "CSV"),
    "Parquet": (write_parquet, "Parquet"),
    "pictures": (write_pictures, "pictures in ten folders"),
}  # fmt: skip
