"""Event files, read back with a reader of the test's own, hold what results.json and the journal hold."""

import dataclasses
import json
import math
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import QUICK_ENOUGH, run_compare, script, toy_digits, write_idx_folder
from tensorboardX.proto.event_pb2 import Event

from mnist_jax import UserError
from mnist_jax.cli import commands as cli
from mnist_jax.cli.terminal import EpochProgress
from mnist_jax.runs.journal import JOURNAL
from mnist_jax.runs.records import Epoch, Run
from mnist_jax.views.tensorboard import BY_STEP, EVENTS, EventFiles, epoch_points


def crc32c(data):
    """Castagnoli's, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    """The events of a file of TFRecords, each a length, its checksum, as many bytes and theirs."""
    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        length, checksum = struct.unpack_from("<QI", content, place)
        assert checksum == masked(content[place : place + 8])
        data = content[place + 12 : place + 12 + length]
        place += 12 + length + 4
        assert struct.unpack_from("<I", content, place - 4) == (masked(data),)
        found.append(Event.FromString(data))
    assert place == len(content)
    return found


def scalars(path):
    """Tag -> [(step, value)] of an event file, in its order."""
    first, *rest = events(path)
    assert first.file_version == "brain.Event:2"
    found = {}
    for event in rest:
        assert event.WhichOneof("what") == "summary"
        for value in event.summary.value:
            assert value.WhichOneof("value") == "simple_value"
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def runs(out):
    """Folder -> scalars of every run in a study's folder; each has one file."""
    root = out / "tensorboard"
    files = [path for path in root.rglob("*") if path.is_file()]
    assert all(path.name == EVENTS for path in files)
    return {path.parent.relative_to(root).as_posix(): scalars(path) for path in files}


def curve(values):
    """A curve of results.json as points of an event file."""
    return [(number, np.float32(math.nan if value is None else value)) for number, value in enumerate(values, start=1)]


def curves(run):
    """A run's record as curves of an event file, on 20 test and 6 validation images."""
    tags = {f"loss/{kind}": curve(run[f"{kind}_loss"]) for kind in ("train", "test")}
    tags["seconds/epoch"] = curve(run["seconds"])
    for split, images in (("test", 20), ("validation", 6)):
        if run.get(f"{split}_correct") is not None:
            tags[f"accuracy/{split}"] = curve(count / images for count in run[f"{split}_correct"])
    return tags


def row(entry, number):
    """One run of a lesson's entry in results.json."""
    return {name: values and values[number] for name, values in entry.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        np.testing.assert_array_equal(found[tag], points, err_msg=tag)


def without_seconds(found):
    return {run: {tag: points for tag, points in tags.items() if "seconds" not in tag} for run, tags in found.items()}


def test_checksum_matches_the_standard():
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("split", ["slides", "notebooks"])
def test_ladder_event_files_match_results_json(run_main, toy_folder, tmp_path, split):
    out = tmp_path / "out"
    began = time.time()
    arguments = ["--lessons", "mlp", "adam", "--seeds", 2, "--epochs", 3, "--split", split, "--tensorboard"]
    assert run_main(script("ladder").main, "--data", toy_folder, "--out", out, *arguments)[0] == 0
    found = runs(out)
    lessons = json.loads((out / "results.json").read_text())["lessons"]
    assert sorted(found) == ["adam/seed-0", "adam/seed-1", "mlp/seed-0", "mlp/seed-1"]
    for lesson_id, entry in lessons.items():
        for seed in entry["seeds"]:
            assert_same(found[f"{lesson_id}/seed-{seed}"], curves(row(entry, seed)))
    assert ("accuracy/validation" in found["mlp/seed-0"]) == (split == "slides")
    times = [event.wall_time for path in out.rglob(EVENTS) for event in events(path)]
    assert began <= min(times) <= max(times) <= time.time()


def test_non_finite_values_are_nan(run_main, toy_folder, tmp_path):
    arguments = ["--data", toy_folder, "--learning-rate", 1e30, "--out", tmp_path / "run", "--tensorboard"]
    assert run_main(cli.main, "train", "relu", *arguments)[0] == 0
    entry = json.loads((tmp_path / "run" / "results.json").read_text())["lessons"]["relu"]
    found = runs(tmp_path / "run")
    assert_same(found["relu/seed-0"], curves(row(entry, 0)))
    assert math.isnan(found["relu/seed-0"]["loss/train"][-1][1])


def test_tensorboardx_is_needed_only_with_the_flag(run_main, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    arguments = ["train", "mlp", "--data", toy_folder, "--epochs", 1]
    assert run_main(cli.main, *arguments, "--out", tmp_path / "run")[0] == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoints", "results.json", JOURNAL]
    status, out, err = run_main(cli.main, *arguments, "--out", tmp_path / "other", "--tensorboard")
    assert (status, out) == (2, "")
    assert err == "error: --tensorboard needs tensorboardX; pip install '.[app]' installs it.\n"
    assert not (tmp_path / "other").exists()


LADDER = ["--lessons", "mlp", "--seeds", 8, "--epochs", 2]  # on the tests' devices: four runs side by side, twice


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """Data, and the scalars of a ladder that nothing interrupted."""

    root = tmp_path_factory.mktemp("whole")
    toy_folder = write_idx_folder(root / "toy", toy, toy_digits(20, seed=1))
    with pytest.MonkeyPatch.context() as patch:
        ladder(patch, toy_folder, root / "out", "--tensorboard")
    return toy_folder, without_seconds(runs(root / "out"))


def ladder(patch, toy_folder, out, *more, until=None):
    """Train; killed instead of printing the line number `until`."""
    show, count = EpochProgress.show, 0

    def counted(self, label, epoch, **rest):
        nonlocal count
        count += 1
        if "--tensorboard" in more:
            path = out / "tensorboard" / label / f"seed-{epoch.run.seed}" / EVENTS
            assert scalars(path)["loss/train"][-1] == (epoch.number, epoch.train_loss)  # before its line
        if count == until:
            raise RuntimeError("killed")
        show(self, label, epoch, **rest)

    with patch.context() as within:
        within.setattr(EpochProgress, "show", counted)
        arguments = ["--data", toy_folder, "--out", out, *LADDER, *more]
        within.setattr(sys, "argv", ["ladder.py", *map(str, arguments)])
        script("ladder").main()


ON, OFF = ["--tensorboard"], []


@pytest.mark.parametrize("calls", [[ON, ON], [OFF, ON], [ON, OFF, ON]], ids=str)
@pytest.mark.parametrize(
    "until", [pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(10, marks=pytest.mark.slow)]
)
def test_resumed_event_files_match_uninterrupted_ones(whole, tmp_path, monkeypatch, until, calls):
    toy_folder, expected = whole
    with pytest.raises(RuntimeError, match="killed"):
        ladder(monkeypatch, toy_folder, tmp_path, *calls[0], until=until)
    for call in calls[1:]:
        ladder(monkeypatch, toy_folder, tmp_path, "--resume", *call)
    assert without_seconds(runs(tmp_path)) == expected


def test_finished_runs_keep_their_event_files_unless_truncated(whole, tmp_path, monkeypatch):
    toy_folder, expected = whole
    ladder(monkeypatch, toy_folder, tmp_path, "--tensorboard")
    before = {path: path.read_bytes() for path in tmp_path.rglob(EVENTS)}
    damaged = tmp_path / "tensorboard" / "mlp" / "seed-2" / EVENTS
    damaged.write_bytes(before[damaged][:-1])
    ladder(monkeypatch, toy_folder, tmp_path, "--resume", "--tensorboard")
    assert {path for path, content in before.items() if path.read_bytes() != content} == {damaged}
    assert without_seconds(runs(tmp_path)) == expected


def compared(folder, dataset):
    """The journal's entries of a comparison with event files."""
    run_compare(folder, dataset, tensorboard=True)
    _, *entries = map(json.loads, (folder / JOURNAL).read_text().splitlines())
    return entries


def test_comparison_has_one_folder_per_setting_and_tests_by_step(dataset, tmp_path):
    expected = {}
    for entry in compared(tmp_path, dataset):
        tags = curves(entry)
        if entry["stage"] == "final":
            # Three steps per epoch, each tested, the third of one image: the epoch's accuracy is the third's.
            tested = [[*within, end] for within, end in zip(entry["tests"], entry["test_correct"], strict=True)]
            tags[BY_STEP] = curve(count / 20 for epoch in tested for count in epoch)
            assert [step for step, _ in tags[BY_STEP]] == [1, 2, 3, 4, 5, 6]
        is_adam = entry["optimizer"] == "adam"
        label, numbers = "adam" if is_adam else "sgd-nesterov-false", ("b1", "b2", "eps") if is_adam else ("momentum",)
        values = "/".join(f"{entry[name]:g}" for name in ("learning_rate", *numbers))
        expected[f"mlp/{label}/{entry['stage']}/{values}/seed-{entry['seed']}"] = tags
    found = runs(tmp_path)
    assert found.keys() == expected.keys()
    assert "mlp/adam/trials/0.01/0.9/0.999/1e-08/seed-0" in found
    for run, tags in expected.items():
        assert_same(found[run], tags)
    # What the journal gives is what was written live.
    for path in tmp_path.rglob(EVENTS):
        path.unlink()
    compared(tmp_path, dataset)
    again = runs(tmp_path)
    assert again.keys() == found.keys()
    for run, tags in found.items():
        assert_same(again[run], tags)


def test_rate_of_a_schedule_is_a_curve(dataset):
    epoch = Epoch(Run(0), 1, 0.1, 0.2, 18, None, 1.0)
    ((_, plain),) = epoch_points([epoch], dataset)
    assert list(epoch_points([dataclasses.replace(epoch, learning_rate=0.5)], dataset)) == [
        (1, {**plain, "learning_rate": 0.5})
    ]


def test_test_after_the_last_step_is_the_epoch_end(dataset, tmp_path):
    epochs = [Epoch(Run(0), number, 0.1, 0.2, 18, None, 1.0, tests=(10, 18)) for number in (1, 2)]
    for epoch in epochs:
        EventFiles(tmp_path, on=True).add(("run",), epoch, dataset, steps_per_epoch=6, test_every=3)
    expected = [(3, np.float32(0.5)), (6, np.float32(0.9)), (9, np.float32(0.5)), (12, np.float32(0.9))]
    np.testing.assert_array_equal(runs(tmp_path)["run"][BY_STEP], expected)


@pytest.mark.slow
def test_sgd_vs_adam_writes_event_files(run_main, toy_folder, tmp_path):
    arguments = ["--data", toy_folder, "--out", tmp_path / "out", *QUICK_ENOUGH, "--tensorboard"]
    assert run_main(script("sgd_vs_adam").main, *arguments)[0] == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = runs(tmp_path / "out")
    entries = results["nets"]["mlp"]
    finals = [entry[name] for entry in entries.values() for name in ("final", "course") if name in entry]
    assert len(found) == 2 * (3 + 3) + 2 * len(finals)
    final = entries["adam"]["final"]
    for index, seed in enumerate(final["seeds"]):
        setting = entries["adam"]["trials"][entries["adam"]["chosen"]]["settings"]
        values = "/".join(f"{setting[name]:g}" for name in ("learning_rate", "b1", "b2", "eps"))
        tags = found[f"mlp/adam/final/schedule-{setting['schedule']}/{values}/seed-{seed}"]
        np.testing.assert_array_equal(
            tags["accuracy/test"], curve(count / 20 for count in final["test_correct"][index])
        )


def test_running_variance_has_both_kinds_at_the_end_of_each_run(run_main, toy_folder, tmp_path):
    arguments = ["--data", toy_folder, "--seeds", 2, "--epochs", 1, "--out", tmp_path / "out"]
    assert run_main(script("running_variance").main, *arguments)[0] == 0
    assert run_main(script("running_variance").main, *arguments, "--resume", "--tensorboard")[0] == 0
    lessons = json.loads((tmp_path / "out" / "results.json").read_text())["lessons"]
    found = runs(tmp_path / "out")
    assert len(found) == 3 * 2
    for lesson_id, entry in lessons.items():
        for seed in entry["seeds"]:
            expected = {
                f"{tag}/{kept}": curve([value])
                for kept in ("flax", "pytorch")
                for tag, value in (
                    ("accuracy", entry[kept][seed]["correct"] / 20),
                    ("loss", entry[kept][seed]["loss"]),
                )
            }
            assert_same(found[f"{lesson_id}/seed-{seed}"], expected)


@pytest.mark.slow
def test_initialisation_writes_variances_per_layer_and_step(run_main, toy_folder, tmp_path, monkeypatch):
    study = script("initialisation")
    monkeypatch.setattr(study, "STEPS", (0, 1, 4))
    assert run_main(study.main, "--quick", "--data", toy_folder, "--out", tmp_path / "out", "--tensorboard")[0] == 0
    nets = json.loads((tmp_path / "out" / "results.json").read_text())["nets"]
    found = runs(tmp_path / "out")
    assert len(found) == len(nets) == 8
    for name, net in nets.items():
        expected = {
            f"{kind} of {words}/fc{layer}": [
                (step, np.float32(values[layer - 1]))
                for step, values in zip(study.STEPS, net[quantity][kind][0], strict=True)
            ]
            for quantity, words in study.WORDS.items()
            for kind in ("mean", "variance")
            for layer in (1, 2, 3)
        }
        assert_same(found[f"{name.replace(', ', '-').replace(' ', '-')}/seed-0"], expected)


def test_many_runs_hold_no_file_open(dataset, tmp_path):
    def opened():
        return len(list(Path("/proc/self/fd").iterdir()))

    files, before = EventFiles(tmp_path, on=True), opened()
    for number in (1, 2):
        for seed in range(300):
            files.add(("mlp", f"seed-{seed}"), Epoch(Run(seed), number, 0.1, 0.2, 18, None, 1.0), dataset)
    assert opened() == before
    assert [len(tags["loss/test"]) for tags in runs(tmp_path).values()] == [2] * 300


@pytest.mark.parametrize("full", [False, True])
def test_unwritable_event_file_is_refused(run_main, toy_folder, tmp_path, full):
    if full:  # found when the first epoch ends
        (tmp_path / "tensorboard" / "mlp" / "seed-0").mkdir(parents=True)
        (tmp_path / "tensorboard" / "mlp" / "seed-0" / EVENTS).symlink_to("/dev/full")
    else:  # before training
        (tmp_path / "tensorboard").touch()
    arguments = ["train", "mlp", "--data", toy_folder, "--epochs", 1, "--out", tmp_path]
    status, out, err = run_main(cli.main, *arguments, "--tensorboard")
    assert (status, err.count("\n")) == (2, 1)
    assert "tensorboard" in err
    assert "cannot be written" in err
    assert "epoch" not in out
    assert run_main(cli.main, *arguments, *(["--resume"] if full else []))[0] == 0


def test_a_full_disk_leaves_no_file_open(dataset, tmp_path):
    (tmp_path / "tensorboard" / "run").mkdir(parents=True)
    (tmp_path / "tensorboard" / "run" / EVENTS).symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"):
        EventFiles(tmp_path, on=True).add(("run",), Epoch(Run(0), 1, 0.1, 0.2, 18, None, 1.0), dataset)
