"""TensorFlow Datasets' `mnist`, and its sets of the same form, prepared and read without TensorFlow.

Reading needs no TensorFlow when the data set is stored as array_record. Preparing does, in TFDS's own builder,
to unzip, to encode PNG and for tf.io.gfile (tensorflow/datasets issue 11058); the builder here does those with
gzip and Pillow and leaves everything else to TFDS: URLs, checksums, splits, features, order and layout.
"""

import contextlib
import functools
import io
import logging
import sys
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax.data.idx import read_idx
from mnist_jax.data.locks import alone_in
from mnist_jax.data.pictures import decoded_image
from mnist_jax.data.pieces import SPLITS, Pieces, classes_of
from mnist_jax.errors import UserError, check_choice, expand_user, is_folder, reason
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE

# Name -> TFDS's class. EMNIST's other sets have more than ten classes.
SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    **dict.fromkeys(("emnist/digits", "emnist/mnist"), "EMNIST"),
}
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
PROBE_SECONDS = 5.0


def _tfds() -> Any:
    try:
        import array_record  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        if sys.platform == "win32":
            raise UserError(
                "TFDS reads MNIST with array_record, which is not published for Windows; use --data with a folder of "
                "MNIST's four files, or with sample."
            ) from error
        raise UserError(f"This needs tensorflow-datasets ({error}); install it with: pip install '.[data]'") from error
    return tfds


def name_of(source: str) -> str | None:
    """The data set that `tfds` or `tfds:NAME` means; None if the source is something else.

    Raises:
      UserError: TFDS has no set of that name in MNIST's form.
    """
    kind, colon, name = source.partition(":")
    if kind != "tfds":
        return None
    check_choice("TFDS data set", name if colon else "mnist", SETS)
    return name if colon else "mnist"


def builder(name: str, data_dir: Path | None = None) -> Any:
    """A TFDS builder that can prepare a data set without TensorFlow.

    Args:
      name: of `SETS`.
      data_dir: TFDS's folder; None is TFDS's own default (`TFDS_DATA_DIR`, else ~/tensorflow_datasets).

    Raises:
      UserError: TFDS is not installed, or what it holds there is damaged or TFRecord.
    """
    tfds = _tfds()
    folder = data_dir and str(_folder_or_new(data_dir))
    family, _, config = name.partition("/")
    options = {"config": config} if config else {}
    try:
        with _quiet():
            kind = _builder_class(family, SETS[name])
            return kind(data_dir=folder, file_format=tfds.core.FileFormat.ARRAY_RECORD, **options)
    except Exception as error:  # what is there may be damaged, or TFRecord, which needs TensorFlow
        raise UserError(
            f"TFDS's {name} in {folder or 'its standard folder'} cannot be used ({reason(error)}); move its folder "
            f"{name} away, or name another place with --data-dir, and run `mnist-jax data tfds:{name} --prepare`."
        ) from error


def _builder_class(family: str, kind: str) -> Any:
    """TFDS's builder, except that it reads downloads without TensorFlow."""
    from tensorflow_datasets.core import registered
    from tensorflow_datasets.image_classification import mnist

    # TFDS knows one of this name already; this one takes its name without taking its place.
    with registered.skip_registration():

        class Builder(getattr(mnist, kind)):  # type: ignore[misc]
            name = family

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                paths = [Path(path) for path in dl_manager.download(_addresses(self))]
                files = _emnist_files(self.builder_config.name, *paths) if family == "emnist" else paths
                return {"train": self._generate_examples(*files[:2]), "test": self._generate_examples(*files[2:])}

            def _generate_examples(self, images: Any, labels: Any) -> Iterator[tuple[int, dict[str, Any]]]:
                from PIL import Image

                pairs = zip(read_idx(images, 3), read_idx(labels, 1), strict=True)
                for index, (image, label) in enumerate(pairs):
                    png = io.BytesIO()
                    Image.fromarray(image).save(png, "png")
                    png.seek(0)
                    yield index, {"image": png, "label": int(label)}

    return Builder


def _addresses(made: Any) -> list[str]:
    """What is downloaded: the four files, or the archive of all of EMNIST."""
    return [made.URL] if made.name == "emnist" else [made.URL + file for files in FILES.values() for file in files]


def _emnist_files(config: str, archive: Path) -> list[zipfile.Path]:
    """The four files of one of EMNIST's sets."""
    names = [
        f"gzip/emnist-{config}-{split}-{what}-ubyte.gz" for split in SPLITS for what in ("images-idx3", "labels-idx1")
    ]
    return [zipfile.Path(archive, name) for name in names]


def _folder_or_new(data_dir: Path) -> Path:
    path = expand_user(data_dir)
    if not is_folder(path) and path.exists():
        raise UserError(f"{data_dir} is a file; --data-dir names a folder.")
    return path


def prepared_folder(name: str, data_dir: Path | None = None) -> Path | None:
    """Where TFDS holds a data set ready to read, or None; errors as `builder`."""
    made = builder(name, data_dir)
    return Path(made.data_dir) if _is_prepared(made) else None


def _is_prepared(made: Any) -> bool:
    with _quiet():
        return bool(made.is_prepared())


def prepare(name: str, data_dir: Path | None = None, manual_dir: Path | None = None) -> Path:
    """Download a set's files unless they are at hand, check their SHA-256, and store them as TFDS does.

    Args:
      name: as in `builder`.
      data_dir: as in `builder`.
      manual_dir: a folder that holds the files already; None is TFDS's `downloads/manual`.

    Returns:
      The prepared folder, `.../mnist/3.0.1`.

    Raises:
      UserError: no network and no files, or files whose checksum is not the registered one.
    """
    tfds = _tfds()
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    made = builder(name, data_dir)
    if manual_dir is not None and not is_folder(expand_user(manual_dir)):
        raise UserError(f"{manual_dir} is not a folder; --manual-dir names one with the .gz files of {name}.")
    manual_dir = expand_user(manual_dir or default_manual_dir(made))
    if not _is_prepared(made):
        files = [address.rpartition("/")[2] for address in _addresses(made)]
        at_hand = all((manual_dir / file).is_file() for file in files)
        if not at_hand and (why := why_no_download(_addresses(made)[-1])):
            raise UserError(
                f"TFDS's {name} cannot be downloaded ({why}); put {', '.join(files)} into {manual_dir} or use --data "
                "sample."
            )
        config = tfds.download.DownloadConfig(manual_dir=manual_dir if at_hand else None, try_download_gcs=False)
        try:
            with _alone_in(Path(made._data_dir_root).expanduser()):
                made = builder(name, data_dir)  # again: if another process has prepared it, TFDS returns at once
                with _quiet():
                    made.download_and_prepare(download_config=config)
        except UserError:
            raise
        except NonMatchingChecksumError as error:
            raise UserError(
                f"A file of {name} does not have its registered SHA-256; delete it from {manual_dir} "
                "or from TFDS's download folder and try again."
            ) from error
        except Exception as error:  # TFDS passes on whatever the network, the disk or its own checks raise
            raise UserError(f"TFDS could not prepare {name} in {made.data_dir} ({reason(error)}).") from error
    return Path(made.data_dir)


def default_manual_dir(made: Any) -> Path:
    """Where TFDS looks for files fetched by hand: `downloads/manual` in its folder."""
    return Path(made._data_dir_root).expanduser() / "downloads" / "manual"


def read_folder(folder: Path) -> Pieces:
    """Images and labels of each split of a prepared TFDS folder, in TFDS's order.

    Returns:
      Images uint8 `[n, 28, 28]` and labels int64 `[n]`, equal to what `tfds.data_source` yields, but decoded by Pillow
      without TFDS's overhead for each example, and EMNIST's, which TFDS keeps columns first, the right way round.

    Raises:
      UserError: not a TFDS folder, not readable without TensorFlow, or not images with labels.
    """
    tfds = _tfds()

    try:
        with _quiet():
            made = _reader(folder)
            bytes_there = sum(path.stat().st_size for path in folder.iterdir())
            pieces = {}
            for split in SPLITS:
                source = made.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
                if len(source) > bytes_there:  # the count is what dataset_info.json says
                    raise ValueError(f"it says that it holds {len(source):,} images, in {bytes_there:,} bytes")
                examples = source.__getitems__(range(len(source)))
                images = np.stack([decoded_image(example["image"]) for example in examples])
                pieces[f"{split} images"] = images.swapaxes(1, 2) if made.name == "emnist" else images
                pieces[f"{split} labels"] = np.array([example["label"] for example in examples])
        names = folder / "label.labels.txt"
        classes = names.read_text("utf-8").splitlines() if names.is_file() else []
    except Exception as error:  # whatever a foreign or damaged folder makes TFDS, array_record or Pillow raise
        raise UserError(
            f"{folder} cannot be read as TFDS image data in array_record form ({reason(error)}); if it "
            "should be MNIST, move it away and run `mnist-jax data --prepare`."
        ) from error
    return {**pieces, **classes_of(classes)}


def _reader(folder: Path) -> Any:
    """A builder that reads a prepared folder of images with labels.

    TFDS imports whatever modules features.json and dataset_info.json name, so the features come from here instead.
    """
    tfds = _tfds()
    from tensorflow_datasets.core.dataset_info import read_proto_from_builder_dir
    from tensorflow_datasets.core.read_only_builder import builder_from_metadata

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(*IMAGE_SHAPE, 1)),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
    )
    info = read_proto_from_builder_dir(str(folder))
    info.features.CopyFrom(features.to_proto())
    return builder_from_metadata(str(folder), info)


def why_no_download(url: str) -> str | None:
    """None if the download's host answers within seconds, else the reason it does not."""
    import requests

    why = f"no answer within {PROBE_SECONDS:g} seconds"

    def ask() -> None:
        nonlocal why
        try:
            response = requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True)
            why = "" if response.ok else f"the server answered {response.status_code}"
        except requests.RequestException as error:
            why = f"no network: {type(error).__name__}"

    # A thread, because looking up a host's name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return why or None


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time prepare a folder; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, wait=True, notify=functools.partial(warnings.warn, stacklevel=2)):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS without its nested progress bars and log lines; the caller shows what is under way."""
    tfds = _tfds()
    logger = logging.getLogger("absl")
    level = logger.level
    tfds.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tfds.enable_progress_bar()
