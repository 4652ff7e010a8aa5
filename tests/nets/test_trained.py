import dataclasses
import json
import os
import shutil
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from helpers import ladder_run
from PIL import Image

from mnist_jax import LESSONS, UserError, data, evaluate
from mnist_jax.cli import commands as cli
from mnist_jax.lessons import lesson_of_json, lesson_to_json
from mnist_jax.nets.trained import find_nets, read_nets, read_run, run_folder
from mnist_jax.runs.checkpoints import Checkpoints, last_checkpoint
from mnist_jax.runs.devices import Placement
from mnist_jax.runs.files import RESULTS, write_results
from mnist_jax.runs.journal import CHECKPOINTS, JOURNAL, Journal
from mnist_jax.runs.loop import train_runs
from mnist_jax.runs.provenance import describe_run, environment
from mnist_jax.runs.records import Run
from mnist_jax.views.words import device_words


def digits_of(run):
    return data.load(str(run.parent / "toy"), "notebooks")


@pytest.fixture
def copy(toy_ladder, tmp_path):
    """A run that a test may change."""
    return shutil.copytree(toy_ladder, tmp_path / "run")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("lesson_id", LESSONS)
def test_net_is_read_as_its_run_left_it(toy_ladder, lesson_id, seed):
    (net,) = read_nets(toy_ladder, lesson_id=lesson_id, seed=seed)
    entry = json.loads((toy_ladder / RESULTS).read_text())["lessons"][lesson_id]
    tested = evaluate(net.state, digits_of(toy_ladder).test)
    assert (net.lesson_id, net.seed, net.epoch, net.state.lesson) == (lesson_id, seed, 2, LESSONS[lesson_id])
    assert int(net.state.step) == 2 * 3
    assert int(tested.correct) == entry["test_correct"][seed][-1]
    assert float(tested.loss) == pytest.approx(entry["test_loss"][seed][-1], rel=1e-6)


def test_all_lessons_are_read_in_course_order_with_first_seed(toy_ladder):
    assert [(net.lesson_id, net.seed) for net in read_nets(toy_ladder)] == [(lesson_id, 0) for lesson_id in LESSONS]


def test_a_net_is_read_without_its_optimizer(copy):
    (net,) = read_nets(copy, lesson_id="adam")
    results = json.loads((copy / RESULTS).read_text())
    results["config"]["lessons"]["adam"]["optimizer"]["name"] = "no_such_module:made"
    (copy / RESULTS).write_text(json.dumps(results))
    (again,) = read_nets(copy, lesson_id="adam")
    chex.assert_trees_all_equal(again.state.params, net.state.params)
    assert again.state.lesson.optimizer.name == "no_such_module:made"


@pytest.mark.parametrize("side_by_side", [1, 2, 3])
def test_every_run_of_groups_side_by_side_is_found(dataset, tmp_path, one_device, side_by_side):
    """Whether its group was full or filled up, and resumed with some of its runs done."""
    one_device()
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(16, 8))
    folder = tmp_path / CHECKPOINTS / "relu"
    runs = [Run(seed) for seed in (3, 4, 5)]
    options = {"placement": Placement(side_by_side), "checkpoints": Checkpoints(folder)}
    loss = {}
    for epoch in train_runs(lesson, dataset, runs, epochs=1, **options):
        loss[epoch.run] = epoch.test_loss
        if epoch.run == runs[-1]:
            break
    list(train_runs(lesson, dataset, runs, done=runs[:2], epochs=1, **options))
    assert len(list(folder.iterdir())) == -(-3 // side_by_side)
    described = {
        "data": dataset.describe(),
        "config": {"seeds": [3, 4, 5], "lessons": {"relu": as_json(lesson)}},
        "environment": environment(),
    }
    write_results(tmp_path, described)
    for run in runs:
        (net,) = read_nets(tmp_path, seed=run.seed)
        assert float(evaluate(net.state, dataset.test).loss) == pytest.approx(loss[run], rel=1e-5)
    assert read_nets(tmp_path)[0].seed == 3


def add_other_group(run, name, seed, epoch):
    """Add lesson mlp as if from another number of devices: other losses, and 100 more steps to recognise it by."""
    folder = run / CHECKPOINTS / "mlp"
    (group,) = folder.iterdir()
    found = last_checkpoint(group)
    arrays = {name: array[seed : seed + 1] for name, array in found.arrays.items()}
    record = found.history[seed]
    record = {**record, "test_loss": [loss + 0.01 for loss in record["test_loss"]]}
    Checkpoints(folder).of(name).save(epoch, {**arrays, "step": arrays["step"] + 100}, [record])


# The recorded group is `seed-0-` and a digest; the others are before and behind it in the alphabet.
@pytest.mark.parametrize("epoch", [2, 3])
@pytest.mark.parametrize(("name", "seed"), [("seed-0-", 0), ("seed-0-zzz", 0), ("seed-1-", 1)])
@pytest.mark.parametrize("missing", [RESULTS, JOURNAL])
def test_net_of_the_recorded_device_count_is_read(copy, missing, name, seed, epoch):
    add_other_group(copy, name, seed, epoch)
    (copy / missing).unlink()
    (net,) = read_nets(copy, lesson_id="mlp", seed=seed)
    assert int(net.state.step) == 2 * 3


@pytest.mark.parametrize(("epoch", "steps"), [(1, 2 * 3), (3, 2 * 3 + 100)])
@pytest.mark.parametrize("name", ["seed-0-", "seed-0-zzz"])
def test_longest_trained_net_of_an_unfinished_run_is_read(copy, name, epoch, steps):
    add_other_group(copy, name, 0, epoch)
    (copy / RESULTS).unlink()
    (copy / JOURNAL).write_text((copy / JOURNAL).read_text().splitlines(keepends=True)[0])
    (net,) = read_nets(copy, lesson_id="mlp", seed=0)
    assert (net.epoch, int(net.state.step)) == (max(epoch, 2), steps)


PRNGS = "threefry2x32", "rbg", "unsafe_rbg"


@pytest.mark.parametrize("made", [*PRNGS[:2], pytest.param(PRNGS[2], marks=pytest.mark.slow)])
def test_weights_are_readable_with_any_prng(dataset, tmp_path, made):
    lesson = dataclasses.replace(LESSONS["relu"], hidden=(16, 8))
    runs = [Run(seed) for seed in (3, 4)]
    checkpoints = Checkpoints(tmp_path / CHECKPOINTS / "relu")
    with jax.default_prng_impl(made):
        epochs = list(train_runs(lesson, dataset, runs, epochs=1, checkpoints=checkpoints))
    described = describe_run("train", dataset, {"relu": lesson}, command="", seeds=[3, 4], epochs=1)
    write_results(tmp_path, described)
    for read in PRNGS:
        with jax.default_prng_impl(read):
            (net,) = read_nets(tmp_path, seed=4)
            assert float(evaluate(net.state, dataset.test).loss) == pytest.approx(epochs[1].test_loss, rel=1e-5)
            assert jax.random.key_impl(net.state.order_key) == made
            if read != made:
                with pytest.raises(UserError, match=f"random keys are of {made}, not {read}; set JAX_DEFAULT_PRNG"):
                    list(train_runs(lesson, dataset, runs, epochs=2, checkpoints=checkpoints))
    with jax.default_prng_impl(made):
        assert len(list(train_runs(lesson, dataset, runs, epochs=2, checkpoints=checkpoints))) == 4


def test_foreign_files_in_a_run_are_ignored(copy):
    """Such as Finder leaves in each folder that it shows."""
    whole = find_nets(copy, seed=1)
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        for name in (".DS_Store", "._seed-0-x", "seed-0-x", "Thumbs.db", "2"):
            (folder / name).write_bytes(b"\0\0\0\1Bud1")
        (folder / "seed-9-x").mkdir(exist_ok=True)
    assert [(net.lesson_id, net.epoch) for net in find_nets(copy, seed=1)] == [(net.lesson_id, 2) for net in whole]
    assert len(whole) == 6


@pytest.mark.parametrize("name", ["[2026] mnist/run[1]*", "gs:/a?b {c,d} ~ back\\slash %41 naïve"])
def test_every_command_works_under_any_path(run_main, toy_folder, tmp_path, name):
    out = tmp_path / name
    train = ["train", "relu", "--hidden", 16, 8, "--epochs", 2, "--data", toy_folder, "--out", out]
    assert run_main(cli.main, *train)[0] == 0
    journal = (out / JOURNAL).read_text().splitlines(keepends=True)
    (out / JOURNAL).write_text(journal[0])  # as if killed before the run was noted
    (group,) = (out / CHECKPOINTS / "relu").iterdir()
    kept = [path.name for path in group.iterdir()]
    status, _, err = run_main(cli.main, *train, "--resume")
    assert (status, err) == (0, "")
    assert (out / JOURNAL).read_text() == "".join(journal)  # its seconds too: nothing was trained again
    assert [path.name for path in group.iterdir()] == kept
    picture, net, imported = tmp_path / "digit.png", out / "net.safetensors", out.with_name(f"{out.name} imported")
    Image.fromarray(np.pad(np.zeros((14, 4), np.uint8), 10, constant_values=255)).save(picture)
    for command in (
        ["predict", out, picture],
        ["report", out],
        ["export", out, "--format", "safetensors", "--out", net],
        ["import", net, "--lesson", "relu", "--data", toy_folder, "--out", imported],
        ["predict", imported, picture],
    ):
        status, _, err = run_main(cli.main, *command)
        assert (status, err) == (0, ""), command
    assert find_nets(out)[0].epoch == 2


def test_ladder_resumes_a_partly_finished_group(copy, toy_ladder):
    """On four devices its two seeds are a group; from the journal's seconds one sees that nothing is trained again."""
    journal = (copy / JOURNAL).read_text().splitlines(keepends=True)
    (copy / JOURNAL).write_text("".join(journal[:-1]))
    before = {path: path.stat().st_mtime_ns for path in (copy / CHECKPOINTS).rglob("*")}
    arguments = ["--split", "notebooks", "--epochs", 2, "--seeds", 2, "--resume"]
    ladder_run(copy, "--data", toy_ladder.parent / "toy", *arguments)
    assert (copy / JOURNAL).read_text() == "".join(journal)
    assert {path: path.stat().st_mtime_ns for path in (copy / CHECKPOINTS).rglob("*")} == before


def as_json(lesson):
    return json.loads(json.dumps(lesson_to_json(lesson)))


@pytest.mark.parametrize(
    ("options", "says"), [({"seed": 7}, "of seed 7"), ({"lesson_id": "cnn"}, "mlp, dropout, relu")]
)
def test_missing_net_is_refused(toy_ladder, options, says):
    with pytest.raises(UserError, match=says):
        read_nets(toy_ladder, **options)


def test_reading_changes_nothing_even_during_a_save(copy):
    (group,) = (copy / CHECKPOINTS / "mlp").glob("seed-0-*")
    (newest,) = group.glob("2-*")
    newest.rename(group / f".{newest.name}.123.part")  # as in the middle of a save

    def state():
        return sorted((str(path), path.stat().st_mtime_ns) for path in copy.rglob("*"))

    before = state()
    assert read_nets(copy, lesson_id="mlp")[0].epoch == 1
    assert state() == before


def test_lessons_without_intact_checkpoint_are_skipped(copy):
    for path in (copy / CHECKPOINTS / "adam").rglob("*.safetensors"):
        path.write_bytes(b"{}")
    assert [net.lesson_id for net in read_nets(copy)] == list(LESSONS)[:-1]
    with pytest.raises(UserError, match="no net of adam that can be used"):
        read_nets(copy, lesson_id="adam")


def test_diverged_net_is_left_out(run_main, toy_folder, tmp_path):
    out = tmp_path / "run"
    status, _, _ = run_main(
        cli.main, "train", "mlp", "--learning-rate", 1e30, "--activation", "relu", "--data", toy_folder, "--out", out
    )
    assert status == 0
    assert find_nets(out) == []
    status, _, err = run_main(cli.main, "export", out, "--format", "safetensors", "--out", tmp_path / "net")
    assert status == 2
    assert "diverged" in err


def test_checkpoints_of_another_version_are_refused(toy_ladder, tmp_path):
    shutil.copy(toy_ladder / RESULTS, tmp_path)
    Checkpoints(tmp_path / CHECKPOINTS / "mlp" / "seed-0-old").save(1, {"step": np.zeros(1, np.int32)}, [[]])
    with pytest.raises(UserError, match="another version"):
        read_nets(tmp_path, lesson_id="mlp")
    for name in ("step", "order_key", "order_key.another"):
        group = tmp_path / CHECKPOINTS / "he" / f"seed-0-{name}"
        Checkpoints(group).save(1, {name: np.zeros((1, 2), np.uint32)}, {"seeds": [0], "epochs": []})
        with pytest.raises(UserError, match="another version"):
            read_nets(tmp_path, lesson_id="he")
        shutil.rmtree(group)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "[]",
        '{"data": 1}',
        '{"data": {}, "config": {}, "environment": {}}',
        '{"data": {}, "config": null, "environment": {}}',
        '{"data": {}, "config": {"lessons": [1]}, "environment": {}}',
        "[" * 100_000,
        "\xff",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_damaged_run_is_refused(tmp_path, content):
    (tmp_path / RESULTS).write_text(content, encoding="latin-1")
    with pytest.raises(UserError):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "values",
    [{}, {"hidden": 3}, {"optimizer": None}, {"optimizer": {"name": "sgd"}}, {"dtype": 3}, {"new": 1}, None, []],
)
def test_invalid_lesson_json_is_refused(values):
    whole = as_json(LESSONS["adam"])
    assert lesson_of_json(whole) == LESSONS["adam"]
    with pytest.raises(UserError):
        lesson_of_json({**whole, **values} if values else values)


def test_unfinished_run_can_be_read(copy):
    (copy / RESULTS).unlink()
    assert read_run(copy)["config"]["seeds"] == [0, 1]
    assert len(read_nets(copy)) == 6


@pytest.mark.parametrize("is_written", [False, True])
def test_resume_environments_of_an_unfinished_run_are_read(copy, is_written):
    """Even if results.json was written before."""
    if not is_written:
        (copy / RESULTS).unlink()
    assert "resumed_in" not in read_run(copy)
    header = json.loads((copy / JOURNAL).read_text().splitlines()[0])
    del header["digest"]
    for processor in ("abacus", "slide rule"):
        with Journal(copy, {**header, "environment": {**header["environment"], "processor": processor}}):
            pass
    with (copy / JOURNAL).open("a") as file:
        file.write('{"lesson": "ml')  # a line under way
    run = read_run(copy)
    assert [other["processor"] for other in run["resumed_in"]] == ["abacus", "slide rule"]
    assert device_words(run).endswith("resumed in another environment")


@pytest.mark.parametrize("line", ["", "{", "[]", "[" * 100_000, "\xff"], ids=lambda text: ascii(text[:9]))
def test_damaged_journal_is_refused(copy, line):
    (copy / RESULTS).unlink()
    (copy / JOURNAL).write_text(line + "\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"runs\.jsonl (cannot be read|is not what a run)"):
        read_run(copy)


def test_latest_is_the_newest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run in runs yet"):
        run_folder(Path("latest"))
    for age, name in enumerate(["new", "old", "no run"]):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        if name != "no run":
            (folder / JOURNAL).touch()
            os.utime(folder / JOURNAL, (1000 - age, 1000 - age))
    (tmp_path / "runs" / "old" / "report.html").touch()  # which makes no run newer
    assert run_folder(Path("latest")).name == "new"
    (tmp_path / "latest").mkdir()
    with pytest.raises(UserError, match="latest holds no run"):
        run_folder(Path("latest"))
    with pytest.raises(UserError, match="is not a folder"):
        run_folder(Path("nowhere"))
