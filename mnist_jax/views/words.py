"""Recorded runs in words, and tables as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnist_jax.nets.trained import TrainedNet
from mnist_jax.runs.provenance import environment_changes, program
from mnist_jax.views.languages import ENGLISH, Count, Words


def what_was_run(results: Mapping[str, Any], words: Words = ENGLISH) -> str:
    """Data, epochs, seeds and device in one line."""
    config = results["config"]
    return words["run"].format(
        data=data_words(results["data"], words),
        epochs=Count(config["epochs"]),
        seeds=Count(len(config["seeds"])),
        device=device_words(results, words),
    )


def device_words(results: Mapping[str, Any], words: Words = ENGLISH) -> str:
    """On what device it ran, and whether it was resumed in another environment or by another program."""
    first, others = results["environment"], results.get("resumed_in", [])
    said = [device_name(first["device"], words)]
    said += [words["elsewhere"]] if any(environment_changes(first, other) for other in others) else []
    said += [words["by_another"]] if any(program(first) != program(other) for other in others) else []
    return ", ".join(said)


def device_name(device: str, words: Words) -> str:
    """A recorded device: of a CPU `2 CPU cores`, others have names."""
    cpu = re.fullmatch(r"(\d+) CPU cores", device)
    return words["cpu"].format(cores=cpu[1]) if cpu else device


def count_of(number: int, noun: str) -> str:
    """`1 seed`, `10 seeds`."""
    return f"{Count(number):{noun}}"


def data_words(described: Mapping[str, Any], words: Words = ENGLISH) -> str:
    """`Dataset.describe()` in a few words, for titles."""
    images = {
        part: words["images"].format(count=Count(described[part])) if described[part] else words["no_images"]
        for part in ("train", "validation", "test")
    }
    return words["data"].format(
        name=data_name(described["name"], words),
        origin=words[described["source"].partition(":")[0]],
        split=described["split"],
        **images,
    )


def data_name(name: str, words: Words) -> str:
    """A recorded name of data; most are names in any language."""
    return words.get(f"name: {name}", name)


def history(net: TrainedNet, words: Words = ENGLISH) -> str:
    """Where a net comes from."""
    return words["trained" if net.epoch else "imported"].format(seed=net.seed, epoch=net.epoch)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same cells as Markdown."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
