"""TFDS's folders, damaged and hostile ones too, and its downloads."""

import contextlib
import io
import json
import logging
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from helpers import huge, room_for, write_idx_folder
from helpers.digits import TEST, TRAIN, same
from PIL import Image, ImageFile
from tensorflow_datasets.core import registered

from mnist_jax import UserError, data
from mnist_jax.data import pictures
from mnist_jax.data import tfds as tfds_mnist
from mnist_jax.data.tfds import FILES


@pytest.fixture(scope="session")
def tfds_folder(tmp_path_factory):
    """A TFDS data set as TFDS itself writes it, of 60 and 20 toy digits."""
    with registered.skip_registration():

        class ToyDigits(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = None

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "image": tfds.features.Image(shape=(28, 28, 1)),
                            "label": tfds.features.ClassLabel(num_classes=10),
                        }
                    ),
                )

            def _split_generators(self, _):
                return {"train": self._generate_examples(TRAIN), "test": self._generate_examples(TEST)}

            def _generate_examples(self, examples):
                for index, (image, label) in enumerate(zip(*examples, strict=True)):
                    png = io.BytesIO()
                    Image.fromarray(image).save(png, "png")
                    png.seek(0)
                    yield index, {"image": png, "label": int(label)}

    made = ToyDigits(data_dir=str(tmp_path_factory.mktemp("tfds")), file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return Path(made.data_dir)


# --- TFDS ---


@pytest.mark.parametrize("levels_up", [0, 1])
def test_tfds_folder_is_read_like_tfds(tfds_folder, levels_up):
    folder = [tfds_folder, *tfds_folder.parents][levels_up]
    loaded = data.load(str(folder), "notebooks")
    for split, examples in (("train", loaded.train), ("test", loaded.test)):
        source = tfds.builder_from_directory(str(tfds_folder)).as_data_source(split)
        assert len(source) == examples.size
        for index in range(len(source)):
            np.testing.assert_array_equal(source[index]["image"][..., 0], examples.images[index])
            assert source[index]["label"] == examples.labels[index]


def test_emnist_of_tfds_is_turned_upright_and_its_classes_are_named(tfds_folder, tmp_path):
    folder = shutil.copytree(tfds_folder, tmp_path / "emnist" / "1.0.0")
    for path in folder.glob("toy_digits*"):
        path.rename(path.with_name(path.name.replace("toy_digits", "emnist")))
    json_changed(folder / "dataset_info.json", lambda info: info.update(name="emnist"))
    (folder / "label.labels.txt").write_text("\n".join(names := list("abcdefghij")))
    level = logging.getLogger("absl").level
    loaded, plain = (data.load(str(path), "notebooks") for path in (folder, tfds_folder))
    assert logging.getLogger("absl").level == level
    assert loaded.classes == tuple(names)
    np.testing.assert_array_equal(loaded.train.images, plain.train.images.swapaxes(1, 2))


@pytest.mark.parametrize("data_dir", [None, Path(), Path("~/tfds")])
def test_the_folder_that_tfds_data_come_from_is_the_user_s_word(tfds_folder, monkeypatch, data_dir):
    monkeypatch.chdir(tfds_folder.parent)
    assert data.load(tfds_folder.name).where == Path(tfds_folder.name)
    monkeypatch.setattr("mnist_jax.data.tfds.prepare", lambda *_: tfds_folder)
    assert data.load("tfds", data_dir=data_dir).where == data_dir


def test_decoded_arrays_are_cached_and_a_damaged_copy_is_ignored(tfds_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = data.load(str(tfds_folder))
    (kept,) = (tmp_path / "mnist_jax").iterdir()

    def must_not_decode(*_):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(tfds_mnist, "decoded_image", must_not_decode)
        assert same(data.load(str(tfds_folder)).train, first.train)
    whole = kept.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        kept.write_bytes(damaged)
        assert data.load(str(tfds_folder)).sha256 == first.sha256
        with np.load(kept) as mended:
            assert json.loads(str(mended["about"]))["sha256"] == first.sha256
    with np.load(kept) as stored:
        arrays = dict(stored)
    np.savez(kept, **arrays | {"test_labels": 9 - arrays["test_labels"]})  # a whole file, of other digits
    assert same(data.load(str(tfds_folder)).test, first.test)


class Pickled:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_nothing_that_is_kept_is_unpickled(tfds_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = data.load(str(tfds_folder))
    (kept,) = (tmp_path / "mnist_jax").iterdir()
    with np.load(kept) as stored:
        arrays = dict(stored)
    np.savez(kept, **arrays | {"test_labels": np.array([Pickled()])})
    assert same(data.load(str(tfds_folder)).test, first.test)


def test_unwritable_cache_is_skipped(tfds_folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert data.load(str(tfds_folder)).train.size == 55
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))
    with room_for(4):
        assert data.load(str(tfds_folder)).train.size == 55
    assert not list((tmp_path / "full" / "mnist_jax").iterdir())


def test_damaged_tfds_folder_is_refused(tfds_folder, tmp_path):
    folder = shutil.copytree(tfds_folder, tmp_path / "copy")
    data.load(str(folder))  # whose digits are kept
    for path in folder.glob("*train*"):
        path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be read as TFDS") as error:
        data.load(str(folder))
    assert "\n" not in str(error.value)


def json_changed(path, change):
    """Change a JSON file, or make it."""
    values = json.loads(path.read_text()) if path.exists() else {}
    change(values)
    path.write_text(json.dumps(values))


def named(features, name):
    """The features, of which one is of the class `name`, in each way that TFDS writes or has written them."""
    inner = {"pythonClassName": name, "jsonFeature": {"json": "{}"}}
    return {
        "the whole": {**features, "pythonClassName": name},
        "the whole, as the proto has it": {"python_class_name": name, "featuresDict": features["featuresDict"]},
        "the whole, as of old": {"type": name, "content": {}},
        "one of them": {
            **features,
            "featuresDict": {"features": {**features["featuresDict"]["features"], "label": inner}},
        },
        "one more": {
            **features,
            "featuresDict": {"features": {**features["featuresDict"]["features"], "more": inner}},
        },
        "in a sequence": {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {"feature": inner, "length": "-1"},
        },
        "in JSON within JSON": {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "jsonFeature": {"json": json.dumps({"label": {"type": name, "content": {}}})},
        },
    }


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module beside the data that can be imported, and a function that says whether it was."""
    package = tmp_path / "digits_of_a_stranger"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "evil.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield lambda: (tmp_path / "was here").exists() or package.name in sys.modules
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


EVIL = "digits_of_a_stranger.evil.Digits"


@pytest.mark.parametrize("way", named({"featuresDict": {"features": {}}}, ""))
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("source", ["a folder", "TFDS's"])
def test_names_in_tfds_data_are_not_imported(tfds_folder, tmp_path, evil, source, file, way):
    if source == "a folder":
        folder = shutil.copytree(tfds_folder, tmp_path / "copy")
        arguments = {"source": str(folder)}
    else:
        folder = shutil.copytree(tfds_folder, tmp_path / "tfds" / "mnist" / "3.0.1")
        for path in folder.glob("toy_digits*"):
            path.rename(path.with_name(path.name.replace("toy_digits", "mnist")))
        json_changed(folder / "dataset_info.json", lambda info: info.update(name="mnist", version="3.0.1"))
        arguments = {"source": "tfds", "data_dir": tmp_path / "tfds"}
    features = named(json.loads((folder / "features.json").read_text()), EVIL)[way]
    (folder / "evil.py").write_text((tmp_path / "digits_of_a_stranger" / "evil.py").read_text())
    if file == "features.json":
        (folder / file).write_text(json.dumps(features))
    else:
        json_changed(folder / file, lambda info: info.update(features=features, moduleName=EVIL.rsplit(".", 1)[0]))
    with contextlib.suppress(UserError):
        assert same(data.load(**arguments).train, data.load(str(tfds_folder)).train)
    assert not evil()


@pytest.mark.parametrize("count", [10**6, 2**31, 2**62])
def test_tfds_counts_are_not_trusted(tfds_folder, tmp_path, count):
    folder = shutil.copytree(tfds_folder, tmp_path / "copy")
    json_changed(folder / "dataset_info.json", lambda info: info["splits"][0].update(shardLengths=[str(count)]))
    with pytest.raises(UserError, match=f"cannot be read as TFDS.*it holds {count:,} images"):
        data.load(str(folder))


@pytest.mark.parametrize("side", [27, 9_000, 30_000])
def test_tfds_images_of_another_size_are_not_decoded(side, monkeypatch):
    def must_not_decode(*_):
        raise AssertionError

    monkeypatch.setattr(ImageFile.ImageFile, "load", must_not_decode)
    # Pillow itself refuses the largest.
    with pytest.raises((ValueError, Image.DecompressionBombError), match=f"{side} x {side} pixels|exceeds limit"):
        pictures.decoded_image(huge(side))


@pytest.mark.parametrize("content", ["{", '{"name": "mnist", "version": "3.0.1", "fileFormat": "tfrecord"}'])
def test_auto_uses_the_sample_if_tfds_data_are_unusable(tmp_path, content):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(content)
    loaded = data.load("auto", data_dir=tmp_path)
    assert loaded.source == "sample"
    assert "cannot be used" in loaded.notice
    with pytest.raises(UserError, match=r"move its folder mnist away") as error:
        data.load("tfds", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_tfds_without_network_gives_advice(offline, tmp_path):
    with pytest.raises(UserError, match=r"no network.*downloads/manual.*--data sample"):
        data.load("tfds", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "says"), [(200, None), (503, "the server answered 503")])
def test_a_server_that_refuses_is_quoted(monkeypatch, status, says):
    response = requests.Response()
    response.status_code = status
    monkeypatch.setattr(requests, "head", lambda *_, **__: response)
    assert tfds_mnist.why_no_download("") == says


def test_unknown_home_folder_is_refused():
    home = "~nobody-of-this-name"
    for arguments in ({"source": f"{home}/x"}, {"source": "tfds", "data_dir": Path(home)}):
        with pytest.raises(UserError, match="home folder"):
            data.load(**arguments)


def test_unresponsive_network_times_out(monkeypatch):
    monkeypatch.setattr(tfds_mnist, "PROBE_SECONDS", 0.1)
    given_up = threading.Event()

    def hang(*_, **__):
        given_up.wait()
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", hang)
    assert "no answer within 0.1 seconds" in tfds_mnist.why_no_download("")
    given_up.set()


def test_file_with_wrong_checksum_is_refused(offline, tmp_path):
    manual = write_idx_folder(tmp_path / "manual", TRAIN, TEST)
    with pytest.raises(UserError, match="registered SHA-256"):
        tfds_mnist.prepare("mnist", tmp_path / "tfds", manual)
    assert tfds_mnist.prepared_folder("mnist", tmp_path / "tfds") is None


@pytest.fixture
def served(mnist_folder, monkeypatch):
    """A network in which every download is answered with the real file of that name; the names that were asked."""
    asked = []

    def send(_, request, **__):
        name = request.url.rsplit("/", 1)[-1]
        asked.append((request.method, name))
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.raw = io.BytesIO(b"" if request.method == "HEAD" else (mnist_folder / name).read_bytes())
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return asked


@pytest.mark.slow
def test_real_mnist_through_tfds_without_tensorflow(served, mnist_folder, tmp_path):
    loaded = data.load("auto", data_dir=tmp_path)
    assert sorted(name for method, name in served if method == "GET") == sorted(sum(FILES.values(), ()))
    assert "tensorflow" not in sys.modules
    assert (loaded.name, loaded.source, loaded.notice) == ("MNIST", "tfds", "")
    assert [loaded.train.size, loaded.validation.size, loaded.test.size] == [55_000, 5_000, 10_000]
    source = tfds.data_source("mnist", split="test", data_dir=str(tmp_path), download=False)
    assert len(source) == 10_000
    for index in (0, 1, 4_999, 9_999):
        np.testing.assert_array_equal(source[index]["image"][..., 0], loaded.test.images[index])
        assert source[index]["label"] == loaded.test.labels[index]
    # The folder TFDS is kept in serves too, and holds the same digits as the four files, in another order.
    assert data.load(str(tmp_path)).sha256 == loaded.sha256
    files = data.load(str(mnist_folder))
    for ours, theirs in ((loaded.test, files.test),):
        np.testing.assert_array_equal(np.bincount(ours.labels), np.bincount(theirs.labels))
        assert sorted(image.tobytes() for image in ours.images) == sorted(image.tobytes() for image in theirs.images)


@pytest.mark.parametrize("missing", ["array_record", "tensorflow_datasets"])
def test_system_without_array_record_is_told_what_works(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match="install it with"):
        data.load("tfds")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match="not published for Windows; use --data with a folder"):
        data.load("tfds")
    fallback = data.load("auto")
    assert (fallback.source, "not published for Windows." in fallback.notice) == ("sample", True)
