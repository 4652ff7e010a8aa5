"""Coverage-guided fuzzing: whatever a file or a user says is read correctly, or refused with a message.

It needs atheris, which the project does not install, beside the project's own packages:

    pip install atheris
    python tests/fuzz.py idx -runs=1000000

The targets are idx, csv, npz, matlab, parquet, pictures, checkpoint, lesson and arguments; what follows is libFuzzer's
(`-max_total_time=60`, a folder of inputs, a file to try again). It ends at the first input that is misread, raises
something else or takes 2 GB of memory, and writes that to a file.
"""

import contextlib
import functools
import gzip
import hashlib
import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mnist_jax"]):
    import conftest  # noqa: F401 sets the environment, before jax is imported
    import numpy as np
    import test_lessons
    from helpers import command_lines, forms, idx_bytes

    from mnist_jax import LESSONS, UserError
    from mnist_jax.data.forms import _arrays, find
    from mnist_jax.data.idx import read_idx
    from mnist_jax.lessons import ACTIVATIONS, DTYPES, INITIALISATIONS
    from mnist_jax.optimizers import OPTIMIZERS
    from mnist_jax.runs.checkpoints import Checkpoints

# Beyond what the file holds, of which gzip packs up to 1030 bytes into one: a chunk of the reader, and Python's own.
_MOST_MEMORY = 4_000_000

FOLDER = "MNIST_JAX_FUZZ_FOLDER"
COUNTS = "counts"


@contextlib.contextmanager
def idx(folder: Path) -> Iterator[Callable[[bytes], bool]]:
    """A file in IDX form or not, zipped or not, whole or not."""
    path = folder / "file"

    def read(data: bytes) -> bool:
        dimensions, content = _file(data)
        path.write_bytes(content)
        expected = _parsed(content, dimensions)
        array, refused = None, ""
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        try:
            array = read_idx(path, dimensions)
        except UserError as error:
            refused = str(error)
        memory = tracemalloc.get_traced_memory()[1] - before
        assert memory < _MOST_MEMORY + 3000 * len(content), f"{memory} bytes of memory for {len(content)}"
        if array is None:
            assert expected is None, f"refused, but is whole: {refused}"
            assert len(refused.splitlines()) == 1
            return False
        assert expected is not None, f"read, but is no IDX file: {array.shape}"
        assert (array.shape, array.tobytes()) == expected
        return True

    tracemalloc.start()
    try:
        yield read
    finally:
        tracemalloc.stop()


def _file(data: bytes) -> tuple[int, bytes]:
    """The dimensions that are wanted, and a file: the first byte says what is made of the rest."""
    kind, content = (data[0], data[1:]) if data else (0, b"")
    dimensions = 1 if kind & 1 else 3
    if kind & 2:  # sizes that are often right
        sizes = (byte % 4 for byte in content[:dimensions].ljust(dimensions, b"\1"))
        content = struct.pack(f">{dimensions}I", *sizes) + content[dimensions:]
    if kind & 4:
        content = bytes([0, 0, 8, dimensions]) + content
    if kind & 8:
        zipped = bytearray(gzip.compress(content, 1, mtime=0))
        if kind & 16:
            zipped[content[-1] % len(zipped) if content else 0] ^= kind
        content = bytes(zipped)
    return dimensions, content


def _parsed(content: bytes, dimensions: int) -> tuple[tuple[int, ...], bytes] | None:
    """Shape and bytes of an IDX file that is all there, by the format's own words."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except Exception:
            return None
    if dimensions == 1 and content[:4] == bytes([0, 0, 12, 2]):  # QMNIST's table of labels
        rows, columns = struct.unpack_from(">2I", content.ljust(12, b"\0"), 4)
        if len(content) < 12 or columns == 0 or len(content) - 12 != 4 * rows * columns:
            return None
        return (rows,), np.frombuffer(content, ">i4", offset=12).reshape(rows, columns)[:, 0].astype(np.int32).tobytes()
    form = f">HBB{dimensions}I"
    if len(content) < struct.calcsize(form):
        return None
    zeros, kind, count, *shape = struct.unpack_from(form, content)
    rest = content[struct.calcsize(form) :]
    size = functools.reduce(int.__mul__, shape)
    # numpy has no array of 0 x 2^32 x 2^32 bytes.
    possible = functools.reduce(int.__mul__, (max(length, 1) for length in shape)) < 2**63
    right = (zeros, kind, count, size) == (0, 8, dimensions, len(rest))
    return (tuple(shape), rest) if right and possible else None


def _damaged(provider: "atheris.FuzzedDataProvider", before: bytes, most: int) -> bytes:
    """A file that is replaced, overwritten, cut or lengthened."""
    kind, place = provider.ConsumeIntInRange(0, 3), provider.ConsumeIntInRange(0, len(before))
    new = provider.ConsumeBytes(most)
    return [new, before[:place] + new + before[place + len(new) :], before[:place], before + new][kind]


@contextlib.contextmanager
def digits(form: str, folder: Path) -> Iterator[Callable[[bytes], bool]]:
    """A file of a form that digits come in (a key of `forms.WRITERS`), damaged."""
    (folder / "digits").mkdir()
    path = forms.WRITERS[form][0](folder / "digits", *forms.few(10))
    file = forms.largest(path)
    before, expected = file.read_bytes(), _arrays(find(path)).sha256

    def read(data: bytes) -> bool:
        after = _damaged(atheris.FuzzedDataProvider(data), before, len(data))
        file.write_bytes(after)
        refused, arrays = "", None
        try:
            arrays = _arrays(find(path))
        except UserError as error:
            refused = str(error)
        if arrays is None:
            assert after != before, f"refused, but is whole: {refused}"
            assert len(refused.splitlines()) == 1
            return False
        for part in (arrays.train, arrays.test):
            assert part.images.shape == (part.size, 28, 28)
            assert part.images.dtype == part.labels.dtype == np.uint8
            assert part.labels.max() <= 9
        assert after != before or arrays.sha256 == expected
        return True

    yield read


@contextlib.contextmanager
def checkpoint(folder: Path) -> Iterator[Callable[[bytes], bool]]:
    """A checkpoint's file is replaced, overwritten, cut or lengthened, and keeps its name or gets the one that fits."""
    folder = folder / "checkpoints"
    arrays = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.array([7], np.int32)}
    history = [{"loss": 0.5, "other": None}]
    Checkpoints(folder).save(3, arrays, history)
    (whole,) = folder.iterdir()
    before = whole.read_bytes()

    def read(data: bytes) -> bool:
        provider = atheris.FuzzedDataProvider(data)
        renamed = provider.ConsumeBool()
        after = _damaged(provider, before, len(data))
        for path in folder.iterdir():
            path.unlink()
        digest = hashlib.sha256(after).hexdigest()[:32]
        (folder / (f"3-{digest}.safetensors" if renamed else whole.name)).write_bytes(after)
        notices: list[str] = []
        try:
            found = Checkpoints(folder, notify=notices.append).newest()
        except UserError:
            assert renamed, "refused as another version's, but is damaged"
            return False
        assert all(len(notice.splitlines()) == 1 for notice in notices)
        if found is None:
            assert after != before, "refused, but is whole"
            return False
        assert renamed or after == before, "read, but is damaged"
        if after == before:
            assert (found.epoch, found.history, set(found.arrays), notices) == (3, history, set(arrays), [])
            for name, array in arrays.items():
                assert found.arrays[name].dtype == array.dtype
                np.testing.assert_array_equal(found.arrays[name], array)
        return True

    yield read


@contextlib.contextmanager
def lesson(folder: Path) -> Iterator[Callable[[bytes], bool]]:
    """Fields and an optimizer's arguments, of the right types."""
    del folder
    lessons, optimizers = list(LESSONS.values()), list(OPTIMIZERS)

    def make(data: bytes) -> bool:
        provider = atheris.FuzzedDataProvider(data)

        def integer() -> int:
            if provider.ConsumeBool():
                return provider.ConsumeIntInRange(-1, 100)
            return provider.ConsumeInt(9) * (10**400 if provider.ConsumeBool() else 1)

        def number() -> float:
            return provider.ConsumeFloatInRange(0.0, 1.0) if provider.ConsumeBool() else provider.ConsumeFloat()

        def word(known: Sequence[str]) -> str:
            if provider.ConsumeBool():
                return provider.PickValueInList(list(known))
            return provider.ConsumeUnicodeNoSurrogates(9)

        fields = {
            "hidden": lambda: tuple(integer() for _ in range(provider.ConsumeIntInRange(0, 3))),
            "activation": lambda: word(ACTIVATIONS),
            "dropout_rate": number,
            "batch_norm": provider.ConsumeBool,
            "initialisation": lambda: word(INITIALISATIONS),
            "batch_size": integer,
            "dtype": lambda: word(DTYPES),
        }
        base = provider.PickValueInList(lessons)
        optimizer_arguments = None
        if provider.ConsumeBool():
            numbers = {word(test_lessons.HYPERPARAMETERS): number() for _ in range(provider.ConsumeIntInRange(0, 2))}
            optimizer_arguments = (word(optimizers), number(), numbers)
        chosen = [provider.PickValueInList(list(fields)) for _ in range(provider.ConsumeIntInRange(0, 3))]
        return test_lessons.made_or_refused(base, {field: fields[field]() for field in chosen}, optimizer_arguments)

    yield make


@contextlib.contextmanager
def arguments(folder: Path) -> Iterator[Callable[[bytes], bool]]:
    """Arguments of `mnist-jax`: its own words and options, and others."""
    good = [*command_lines.GOOD, *(line for line, _ in command_lines.BAD.values())]

    def say(data: bytes) -> bool:
        provider = atheris.FuzzedDataProvider(data)
        line = list(provider.PickValueInList(command_lines.COMMANDS))
        for _ in range(provider.ConsumeIntInRange(0, 4)):
            if provider.ConsumeBool():
                line += provider.PickValueInList(good)
                continue
            if provider.ConsumeBool():
                line.append(provider.PickValueInList(command_lines.OPTIONS))
            if provider.ConsumeBool():
                line.append(provider.PickValueInList(command_lines.WORDS))
            elif provider.ConsumeBool():
                line.append(provider.ConsumeUnicodeNoSurrogates(12).replace("\0", ""))
        return command_lines.understood_or_refused(line)

    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "TFDS_DATA_DIR": str(folder / "tfds")}
    (folder / "empty").mkdir()
    with command_lines.nothing_trained(folder / "empty"):
        yield say


def seeds(target: str) -> list[bytes]:
    """Inputs to start from."""
    images = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    labels = idx_bytes(np.arange(3, dtype=np.uint8))
    huge = struct.pack(">4B3I", 0, 0, 8, 3, 0, 2**32 - 1, 2**32 - 1)
    files = [b"\0" + images, b"\1" + labels, b"\0" + huge, *(bytes([kind, 3, 2, 1]) + b"pixels" for kind in range(32))]
    return {
        "idx": [*files, b"\0" + gzip.compress(images), b"\1" + gzip.compress(labels)],
        # FuzzedDataProvider takes its numbers from the end: the name, the kind of damage, the place.
        "checkpoint": [content + b"\0\0\0\1" for content in (b"{}", b"[" * 3000, b"9" * 4500)]
        + [b" \0\3\1\1", b"\0\0\3\1", *(bytes([byte]) + b"\0\5\1\1" for byte in range(16, 32))],
    }.get(target, [bytes(range(256)), b"\xff" * 64])


FORMS = {
    "csv": "CSV",
    "npz": "npz, not packed",
    "matlab": "EMNIST's MATLAB file",
    "parquet": "Parquet",
    "pictures": "pictures",
}
TARGETS = {
    "idx": idx,
    **{name: functools.partial(digits, form) for name, form in FORMS.items()},
    "checkpoint": checkpoint,
    "lesson": lesson,
    "arguments": arguments,
}


def fuzz(target: str, folder: Path) -> None:
    """Try inputs, counting in a file those that are refused and those that are read; it ends with the process."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds(target)):
        (corpus / str(number)).write_bytes(content)
    counts = np.memmap(folder / COUNTS, np.int64, "w+", shape=(2,))
    with TARGETS[target](folder) as tried:

        def count(data: bytes) -> None:
            counts[int(tried(data))] += 1

        own = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        atheris.Setup([*sys.argv, *([] if own else [str(corpus)])], count)
        atheris.Fuzz()


def main() -> None:
    """Entry point."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python tests/fuzz.py {{{','.join(TARGETS)}}} [libFuzzer's options]")
    if FOLDER in os.environ:
        fuzz(sys.argv.pop(1), Path(os.environ[FOLDER]))
    # A process that fuzzes ends without tidying up.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        status = subprocess.run([sys.executable, *sys.argv], env={**os.environ, FOLDER: folder}, check=False).returncode
        refused, read = np.fromfile(Path(folder, COUNTS), np.int64)
    print(f"{sys.argv[1]}: {read + refused:,} inputs, {read:,} read or understood, {refused:,} refused")
    sys.exit(status)


if __name__ == "__main__":
    main()
