"""The report of a comparison of optimizers: verdict, tables and figures of its results.json."""

from collections.abc import Mapping
from typing import Any

from mnist_jax.runs.files import TABLE

QUICK_NOTICE = "QUICK: short epochs and few runs, to see how it works. This is not the study; do not quote it."


def verdict(results: Mapping[str, Any]) -> list[str]:
    """What results.json says, in sentences."""
    entries = [(net, *item) for net, found in results["nets"].items() for item in found.items()]
    return [f"Chosen on {net}: trial {entry['chosen']} of {label}." for net, label, entry in entries]


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the tables and the figures of results.json."""
    notice = f"**{QUICK_NOTICE}**\n\n" if results["config"]["quick"] else ""
    return {TABLE: f"{notice}{' '.join(results['verdict'])}\n".encode()}
