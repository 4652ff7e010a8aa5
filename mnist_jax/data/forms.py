"""What a file or folder holds: which of its files form a data set, and its arrays."""

import dataclasses
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mnist_jax.data import tfds
from mnist_jax.data.arrays import Arrays, as_digits, as_pixels, checked, is_sorted, last_part
from mnist_jax.data.cache import kept
from mnist_jax.data.files import opened
from mnist_jax.data.idx import read_idx
from mnist_jax.data.kinds import kind_of
from mnist_jax.data.matlab import read_matlab
from mnist_jax.data.npz import read_numpy
from mnist_jax.data.pictures import read_pictures
from mnist_jax.data.pieces import SPLITS, Pieces, split_of
from mnist_jax.data.tables import read_csv, read_parquet
from mnist_jax.errors import UserError, is_folder, reason
from mnist_jax.lessons import DIGITS

# (split, "images" or "labels") -> files, and what each holds.
Parts = dict[tuple[str, str], list[tuple[Path, np.ndarray]]]

_HELD_OUT = 7  # without test images, the last of so many parts is the test split: 10,000 of MNIST's 70,000


def _read_idx(path: Path) -> Pieces:
    is_labels = "label" in path.name.lower()
    return {"labels" if is_labels else "images": read_idx(path, 1 if is_labels else 3)}


@dataclasses.dataclass(frozen=True)
class Form:
    """One form that digits come in.

    Attributes:
      name: in words.
      read: its reader; a path of it -> its arrays.
      is_kept: whether it is slow to read, so that the arrays are kept.
      emnist_is_transposed: whether EMNIST's images are in it as NIST stores them, columns first.
    """

    name: str
    read: Callable[[Path], Pieces]
    is_kept: bool = True
    emnist_is_transposed: bool = True


FORMS = {
    "idx": Form("IDX files", _read_idx, is_kept=False),
    "numpy": Form("numpy's arrays", read_numpy, is_kept=False, emnist_is_transposed=False),
    "tfds": Form("a TFDS data set", tfds.read_folder, emnist_is_transposed=False),
    "csv": Form("CSV", read_csv),
    "parquet": Form("Parquet", read_parquet, emnist_is_transposed=False),
    "matlab": Form("EMNIST's MATLAB file", read_matlab),
    "pictures": Form("pictures in ten folders", read_pictures, emnist_is_transposed=False),
}
REFUSED = {
    "pickle": "is a pickle, which can run any code when it is opened, and is never opened here; docs/data.md says how "
    "to convert it",
    "archive": "is an archive, or compressed; unpack it and name what was in it",
    "unlabelled": "has 784 columns of pixels but none of labels; name a file with labels",
    "closed": "is a folder that may not be read; change its permissions",
    "narrow": "has lines of a few values, not of a label and 28 x 28 pixels with commas between them; replace other "
    "separators, such as tabs, semicolons or spaces",
    "few": "holds fewer than ten folders of pictures; one for each class is needed",
    "picture": "is a single picture; put pictures into ten folders, one for each class, such as train/7/1.png",
    "hdf5": "is an HDF5 file; save its arrays with numpy.savez",
    "page": "is a web page; fetch the file again",
    "link": "is a link to something that does not exist; restore that, or remove the link",
    "pipe": "is a pipe or a device; save its content in a file",
}


@dataclasses.dataclass(frozen=True)
class Found:
    """The files of one data set.

    Attributes:
      kind: key of `FORMS`.
      root: what the user named, or the folder of it.
      files: groups of files with the same content, such as one and its gzipped copy; one of each group is read.
      notice: what the user must know about the choice, or "".
    """

    kind: str
    root: Path
    files: tuple[tuple[Path, ...], ...]
    notice: str = ""

    @property
    def where(self) -> str:
        """What error messages name: the only file, or the root."""
        return str(self.files[0][0] if len(self.files) == 1 else self.root)


def read_path(path: Path) -> Arrays:
    """The arrays of a file or folder in any of `FORMS`.

    Raises:
      UserError: it does not exist, has another format, or holds anything but labelled images of 28 x 28 pixels.
    """
    if not is_folder(path) and not os.path.lexists(path):
        raise UserError(
            f"{path} is neither a file nor a folder; --data takes auto, tfds, tfds:NAME, sample, or a file or folder "
            "that exists."
        )
    found = find(path)
    if not FORMS[found.kind].is_kept:
        return _arrays(found)
    return kept(str(path.resolve()), _state(found), lambda: _arrays(found))


# --- which files ---


def find(path: Path) -> Found:
    """The one data set that a file or folder holds; in a folder also some levels below.

    Raises:
      UserError: there is none, or several.
    """
    refused: dict[str, Path] = {}
    for entries in _levels(path):
        kinds = {entry: kind_of(entry) for entry in entries}
        for entry, kind in kinds.items():
            if kind in REFUSED:
                refused.setdefault(kind, entry)
        found = {kind: sets for kind in FORMS if (sets := _sets(kind, kinds, path))}
        if found:
            kind, *others = found
            if kind == "pictures" and "closed" in kinds.values():  # it may be the training images'
                break
            notices = [f"{path} holds {FORMS[other].name} as well, which is left out." for other in others]
            if kind == "csv" and "unlabelled" in refused:
                notices.append(f"{refused['unlabelled']} has no labels and is left out.")
            return _chosen(kind, path, found[kind], notices)
    if path.is_file() and not path.stat().st_size:
        raise UserError(f"{path} is empty; fetch it again.")
    for kind in REFUSED:
        if kind in refused:
            raise UserError(f"{refused[kind]} {REFUSED[kind]}.")
    raise UserError(
        f"{path} holds no digits in a known format, such as MNIST's four files (train-images-idx3-ubyte.gz and so "
        "on); docs/data.md lists the formats."
    )


def _sets(kind: str, kinds: Mapping[Path, str | None], root: Path) -> dict[tuple[str, ...], list[Path]]:
    """Those entries that are of a kind, by the data set that they are of."""
    sets: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for entry, its in kinds.items():
        if its == kind:
            sets[_set_of(entry, root)].append(entry)
    for entry, its in kinds.items():
        if its == "narrow" and kind == "csv" and _set_of(entry, root) in sets:
            sets[_set_of(entry, root)].append(entry)
    return sets


def _levels(path: Path) -> Iterable[list[Path]]:
    """Files and folders that may be read: the path itself, what is in it, what is one level below, and known places."""
    yield [path]
    if path.is_dir():
        for pattern in ("*", "*/*", "*/raw/*", "*/*/*.*.*"):  # of torchvision, and of TFDS
            yield sorted(entry for entry in path.glob(pattern) if not _is_hidden(entry.relative_to(path)))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


# Words in names that say what a file is of its data set.
_PARTS = re.compile(
    r"train\w*|t10k|test\w*|images?|imgs?|labels?|idx\d|ubyte|int|gz|npy|npz|csv|parquet|mat|[xy]|of|\d{4,}|"
    r"[0-9a-f]{16}"  # which Hugging Face puts behind a part's number
)


def _set_of(path: Path, root: Path) -> tuple[str, ...]:
    """The words in a name that are the same for all files of a data set."""
    words = re.split(r"[^a-z0-9]+", str(path.relative_to(root)).lower())
    return tuple(word for word in words if word and not _PARTS.fullmatch(word))


def _chosen(kind: str, root: Path, sets: dict[tuple[str, ...], list[Path]], notices: list[str]) -> Found:
    """Of several data sets the digits of EMNIST, whose files come together with those of its letters."""
    of_digits = [name for name in sets if "digits" in name]
    if len(sets) > 1 and len(of_digits) != 1:
        examples = " or ".join(str(files[0]) for files in list(sets.values())[:2])
        raise UserError(f"{root} holds several data sets; name one of them, such as {examples}.")
    name = of_digits[0] if of_digits else next(iter(sets))
    if len(sets) > 1:
        notices.append(
            f"{root} holds several data sets, of which this is {'-'.join(name)}; name a file of another to take it."
        )
    files = sets[name]
    if files == [root] and kind in ("idx", "numpy"):  # the others of its set are beside it
        beside = [path for path in root.parent.glob("*") if _set_of(path, root.parent) == _set_of(root, root.parent)]
        beside = [path for path in beside if kind_of(path) == kind]
        root, files = (root.parent, beside) if len(beside) > 1 else (root, files)
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(files, key=lambda file: (file.suffix == ".gz", file)):
        groups[re.sub(r"[._]", "-", str(path.relative_to(root)).removesuffix(".gz"))].append(path)
    return Found(kind, root, tuple(map(tuple, groups.values())), " ".join(notices))


def _state(found: Found) -> str:
    """Sizes and times of all files, so that a change is noticed."""
    state = [found.kind, found.notice]
    for path in itertools.chain(*found.files):
        below = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        for file in sorted(below) or [path]:
            try:
                stat = file.stat()
            except OSError as error:
                raise UserError(f"{file} cannot be accessed ({reason(error)}).") from error
            state.append(f"{file} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(state)


# --- their arrays ---


def _arrays(found: Found) -> Arrays:
    """What the files hold, as training and test examples."""
    form, notices = FORMS[found.kind], [found.notice]
    parts: Parts = defaultdict(list)
    names: set[tuple[str, ...]] = set()
    for group in found.files:
        path, pieces = _first_whole(group, form.read, notices)
        name = "" if path == found.root else str(path.relative_to(found.root))
        is_transposed = form.emnist_is_transposed and re.search("(?<![a-z])emnist", path.name.lower())
        names.add(tuple(map(str, pieces.pop("classes", ()))))
        for piece, array in pieces.items():
            what = piece.split()[-1]
            checked_array = (as_pixels if what == "images" else as_digits)(array, str(path))
            if what == "images" and is_transposed:
                checked_array = checked_array.swapaxes(1, 2)
            parts[split_of(piece) or split_of(name) or "", what].append((path, checked_array))
    if len(names) > 1:
        several = " and as ".join(", ".join(each or DIGITS) for each in sorted(names)[:2])
        raise UserError(f"{found.root} names its classes as {several}; give both splits the same names.")
    splits = _splits(found, parts)
    if len(splits) == 1:
        splits = _held_out(*splits[0], found, notices)
    train, test = splits
    arrays = checked(train, test, found.where)
    notice = " ".join(filter(None, [*notices, arrays.notice]))
    return dataclasses.replace(arrays, form=form.name, classes=arrays.classes or names.pop(), notice=notice)


def _first_whole(group: Sequence[Path], read: Callable[[Path], Pieces], notices: list[str]) -> tuple[Path, Pieces]:
    """The content of the first whole file among several of the same content."""
    refusals: list[UserError] = []
    for path in group:
        try:
            if not is_folder(path):
                with opened(path) as file:
                    if not file.read(1):
                        raise UserError(f"{path} is empty; fetch it again.")
            pieces = read(path)
        except UserError as error:
            refusals.append(error)
            continue
        if refusals:
            notices.append(f"{str(refusals[0]).split(';')[0].rstrip('.')}, so {path} is read in its place.")
        return path, pieces
    raise refusals[0]


def _splits(found: Found, parts: Parts) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the training and the test split, or of the only one."""
    splits = []
    for split in (*SPLITS, ""):
        images, labels = parts[split, "images"], parts[split, "labels"]
        if not images and not labels:
            continue
        for what, some in (("images", images), ("labels", labels)):
            called = f"{split} {what}".strip()
            if not some:
                raise UserError(f"{found.where} has no {called}; add them, or a file of them.")
            if len(some) > 1 and found.kind != "parquet":  # of which there may be several files of a split
                raise UserError(f"{some[0][0]} and {some[1][0]} both hold {called}; move one of them away.")
        pixels, digits = _joined(images), _joined(labels)
        if len(pixels) != len(digits):
            of_labels = "" if images[0][0] == labels[0][0] else f"{labels[0][0]} holds "
            raise UserError(
                f"{images[0][0]} holds {len(pixels)} {f'{split} images'.strip()} but {of_labels}{len(digits)} labels; "
                "every image needs one label."
            )
        splits.append((pixels, digits))
    if len(splits) > 2:
        raise UserError(
            f"{parts['', 'images'][0][0]} holds images beside those to train and to test, and no name says what for; "
            "move them away."
        )
    if not splits:
        raise UserError(f"{found.where} holds no images.")
    return splits


def _joined(some: Sequence[tuple[Path, np.ndarray]]) -> np.ndarray:
    return np.concatenate([array for _, array in some]) if len(some) > 1 else some[0][1]


def _held_out(
    images: np.ndarray, labels: np.ndarray, found: Found, notices: list[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The only split without its last seventh, and that."""
    is_test = last_part(labels, _HELD_OUT)
    part, needed = ("seventh of each class", "7 of a class") if is_sorted(labels) else ("seventh", "7")
    if not is_test.any():
        raise UserError(
            f"{found.where} holds too few images ({len(labels)}): the last {part} is held out for testing, which takes "
            f"at least {needed}."
        )
    notices.append(
        f"{found.where} has no test images of its own: the last {part}, {is_test.sum():,} of {len(labels):,}, is held "
        "out."
    )
    return [(images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])]
