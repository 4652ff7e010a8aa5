"""The tables of a speed.json, with what was timed and how to read them, and its figure."""

import statistics
from collections.abc import Mapping
from typing import Any

from mnist_jax.runs.files import TABLE
from mnist_jax.runs.loop import EPOCHS
from mnist_jax.views.figures import speed_figure
from mnist_jax.views.words import count_of, data_words, markdown_table
from timing.gpu_study import MOST_EPOCHS, NEARLY, OF_MEMORY
from timing.starts import KINDS

PEERS = {
    "ours_per_core": "a run per core",
    "ours_split": "split over the cores",
    "jax_step_loop": "JAX, a call per step",
    "torch_in_memory": "PyTorch, in memory",
    "torch_per_core": "PyTorch, a process per core",
    "torch_dataloader": "PyTorch, DataLoader",
    "torch_compile": "torch.compile",
    "torch_cuda_graph": "PyTorch, CUDA graph",
    "ours_without_command_buffers": "ours without command buffers",
    "ours_loop_in_command_buffer": "ours, loop in a command buffer",
    "ours_loop_unrolled": "ours, loop unrolled",
}


# Title, rows of cells by column, and how to read them.
Table = tuple[str, list[dict[str, str]], str]


def tables(results: Mapping[str, Any]) -> list[Table]:
    """All tables of a speed.json."""
    lessons = [_cells(results, lesson_id) for lesson_id in results["epoch_seconds"]]
    found = [("An epoch", lessons, _caption(results))]
    if results["replicas"]:
        runs = [_cells_side_by_side(entry) for entry in results["replicas"]]
        found.append(("Side by side", runs, _caption_side_by_side(results)))
    if "study" in results:
        chosen = [_cells_study(results, lesson_id) for lesson_id in results["epoch_seconds"]]
        found.append(("One run, and many", chosen, _caption_study(results)))
        found.append(("Throughput", _rows_throughput(results), f"{results['device']}. A net is {EPOCHS} epochs."))
    return found


def report(results: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content: the tables and the figure of a speed.json."""
    text = "\n".join(
        f"{markdown_table(list(rows[0]), [list(row.values()) for row in rows])}\n{caption}\n"
        for _, rows, caption in tables(results)
    )
    text += "".join(f"\n**{notice}**\n" for notice in results["notices"])
    content = {TABLE: text.encode()}
    if results["scaling"]:
        content["speed.png"] = speed_figure(results["scaling"], f"Medians and ranges. {_what_was_timed(results)}")
    return content


def _what_was_timed(results: Mapping[str, Any]) -> str:
    """Device, repeats and data in one line."""
    return f"{results['device']}; {count_of(results['repeats'], 'repeat')}; {data_words(results['data'])}"


def _cells(results: Mapping[str, Any], lesson_id: str) -> dict[str, str]:
    """Cells of a lesson's row."""
    limits, seconds = results["limits"], results["epoch_seconds"][lesson_id]
    flops, bytes_moved = limits["epoch_gigaflops"][lesson_id], limits["epoch_gigabytes"][lesson_id]
    together = results["peer_epoch_seconds"].get("ours_per_core", {}).get(lesson_id)
    others = results["ratio_to_ours"].items()
    cells = {
        "lesson": lesson_id,
        "one run (s)": f"{seconds:.2f}",
        "of the product rate": f"{flops / seconds / limits['product_gigaflops_per_second']:.0%}",
        "of the copy rate": f"{bytes_moved / seconds / limits['copy_gigabytes_per_second']:.0%}",
    }
    if together:
        cells["a run per core (s/run)"] = f"{together:.2f}"
        cells["a run per core, of the product rate"] = (
            f"{flops / together / limits['product_gigaflops_per_second']:.0%}"
        )
    for name, ratios in others:
        if not name.endswith("per_core"):
            cells[f"{PEERS[name]} / one run"] = f"{ratios[lesson_id]:.2f}x"
    if results["ratio_per_core"]:
        cells[f"{PEERS['torch_per_core']} / a run per core"] = f"{results['ratio_per_core'][lesson_id]:.2f}x"
    cells["compile (s)"] = f"{results['compile_seconds'][lesson_id]:.1f}"
    if started := results["first_epoch_seconds"]:
        cells["first epoch, cold / warm (s)"] = " / ".join(f"{started[kind][lesson_id]:.1f}" for kind in KINDS)
        cells["peak memory (MB)"] = f"{results['peak_memory_bytes'][lesson_id] / 1e6:,.0f}"
    return cells


def _caption(results: Mapping[str, Any]) -> str:
    share, found, limits = results["config"]["peer_share"], results["environment"], results["limits"]
    where = "all cores" if found["backend"] == "cpu" else "the first device"
    traffic = " to ".join(dict.fromkeys(f"{edge(limits['epoch_gigabytes'].values()):.0f}" for edge in (min, max)))
    sentences = [
        f"{_what_was_timed(results)}.",
        f"Seconds are medians, of an epoch of {results['data']['epoch_length']:,} examples; ratios are medians of the "
        "ratios of times taken in the same repeat.",
        f"Rates: {limits['product_gigaflops_per_second']:,.0f} GFLOP/s of a large matrix product on {where}, where an "
        f"epoch's products are {min(limits['epoch_gigaflops'].values()):.1f} GFLOP, and "
        f"{limits['copy_gigabytes_per_second']:,.0f} GB/s of a copy of a large array, where an epoch's weights make "
        f"{traffic} GB of traffic at least; what stays in a cache can be faster.",
    ]
    if any(not name.startswith("ours") for name in results["ratio_to_ours"]) and share < 1:
        sentences.append(
            f"JAX with a call per step and PyTorch were timed on {share:.0%} of an epoch, scaled to a whole."
        )
    if "torch" in found:
        device = {"cpu": "the CPU", "cuda": "the GPU"}[found["torch_device"]]
        sentences.append(f"PyTorch {found['torch']} on {device}, {count_of(found['torch_threads'], 'thread')}.")
    if results["first_epoch_seconds"]:
        sentences.append(
            "First epoch: from the process's start until its test accuracy is shown, with an empty cache folder and "
            f"with a filled one; medians of {count_of(results['config']['start_repeats'], 'start')} each."
        )
    return " ".join(sentences)


def _cells_side_by_side(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "lesson": entry["lesson"],
        "runs": str(entry["replicas"]),
        "seconds": f"{entry['seconds']:.3g}",
        "seconds per run": f"{entry['seconds_per_replica']:.3g}",
        "compile (s)": f"{entry['compile_seconds']:.1f}",
        **({"memory (GB)": f"{entry['memory_bytes'] / 1e9:.2f}"} if "memory_bytes" in entry else {}),
        "GB/s": f"{entry['gigabytes_per_second']:,.0f}",
    }


def _caption_side_by_side(results: Mapping[str, Any]) -> str:
    devices = max(entry["devices"] for entry in results["replicas"])
    not_there = " Not measured on a GPU." if results["environment"]["backend"] == "cpu" else ""
    return (
        f"{count_of(results['config']['replica_epochs'], 'epoch')} of so many runs side by side on "
        f"{count_of(devices, 'device')} ({results['device']}), without compilation and evaluation. GB/s: the "
        f"weights' least traffic on one device, over the seconds.{not_there}"
    )


def _cells_study(results: Mapping[str, Any], lesson_id: str) -> dict[str, str]:
    """Cells of a lesson's row: seconds to accuracies, and the number of runs to train side by side."""
    found = results["study"]
    return {
        "lesson": lesson_id,
        **{
            f"to {target} % (s)": "not reached" if seconds is None else f"{seconds:.2f}"
            for target, seconds in found["seconds_to"][lesson_id].items()
        },
        "--side-by-side": str(found["side_by_side"].get(lesson_id, "none fits")),
    }


def _caption_study(results: Mapping[str, Any]) -> str:
    return (
        f"{results['device']}. Seconds: training of one run, from its first step on, at most "
        f"{count_of(MOST_EPOCHS, 'epoch')}, without compilation and evaluation. --side-by-side: what to give to "
        f"experiments/optimizers.py and sgd_vs_adam.py on this device; the smallest number of runs measured with at "
        f"least {NEARLY:.0%} of the best throughput, of those that take at most {OF_MEMORY:.0%} of "
        f"{results['study']['memory_limit_bytes'] / 1e9:.0f} GB."
    )


def _rows_throughput(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per contestant alone, and one per number of ours side by side."""
    names = {"ours": "ours", **PEERS}
    rows = {
        names[name]: {lesson_id: 1 / (EPOCHS * statistics.median(times)) for lesson_id, times in seconds.items()}
        for name, seconds in results["seconds"].items()
        if name in names
    }
    for entry in results["replicas"]:
        way = f"ours, {entry['replicas']:,} side by side"
        rows.setdefault(way, {})[entry["lesson"]] = entry["nets_per_second"]
    return [
        {
            "nets per second": way,
            **{key: f"{rates[key]:.3g}" if key in rates else "" for key in results["epoch_seconds"]},
        }
        for way, rates in rows.items()
    ]
