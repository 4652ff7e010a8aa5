"""The user's cache folder, and decoded digits kept in it."""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from mnist_jax.data.arrays import Arrays, digest
from mnist_jax.data.files import replacing
from mnist_jax.errors import UserError
from mnist_jax.train import Examples


def cache_folder() -> Path:
    """This project's part of the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("mnist_jax")


def kept(where: str, state: str, read: Callable[[], Arrays]) -> Arrays:
    """`read()`, or what an earlier call kept of it in the user's cache folder.

    If the kept file is damaged, `read` is called again; if none can be written, nothing is kept.

    Args:
      where: what is read; one file is kept of it.
      state: its state, such as the sizes and times of its files; what was kept in another state, or by other code, is
        not used.
      read: reads it.
    """
    path = cache_folder() / f"{hashlib.sha256(where.encode(errors='replace')).hexdigest()[:16]}.npz"
    code = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    state = hashlib.sha256(code + state.encode(errors="replace")).hexdigest()
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if about["state"] == state:
                train = Examples(stored["train_images"], stored["train_labels"])
                test = Examples(stored["test_images"], stored["test_labels"])
                if digest(train, test) == about["sha256"]:
                    return Arrays(train, test, about["sha256"], about["form"], tuple(about["classes"]), about["notice"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        pass
    arrays = read()
    about = {name: getattr(arrays, name) for name in ("sha256", "form", "classes", "notice")}
    members = {
        **{f"train_{name}": array for name, array in arrays.train._asdict().items()},
        **{f"test_{name}": array for name, array in arrays.test._asdict().items()},
        "about": np.array(json.dumps({**about, "state": state})),
    }
    with contextlib.suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            _save(new, members)
    return arrays


def _save(file: BinaryIO, members: Mapping[str, np.ndarray]) -> None:
    """Like `np.savez`, but without copying 16 MB of an array at a time, twice."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in members.items():
            whole = np.asarray(array, order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, npy.header_data_from_array_1_0(whole))
                member.write(whole.tobytes() if whole.ndim == 0 else whole.data)
