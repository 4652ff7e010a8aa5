import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mnist_jax import LESSONS, UserError, cli, data, evaluate
from mnist_jax.checkpoints import DIGESTS, Checkpoints
from mnist_jax.experiment import Run, train_runs
from mnist_jax.journal import CHECKPOINTS, JOURNAL
from mnist_jax.lessons import lesson_of_json
from mnist_jax.results import RESULTS, write_results
from mnist_jax.trained import find_nets, read_nets, read_run, run_folder


def digits_of(run):
    return data.load(str(run.parent / "toy"), "notebooks")


@pytest.fixture
def copy(toy_ladder, tmp_path):
    """A run that a test may change."""
    return shutil.copytree(toy_ladder, tmp_path / "run")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("lesson_id", LESSONS)
def test_a_net_is_read_as_its_run_left_it(toy_ladder, lesson_id, seed):
    (net,) = read_nets(toy_ladder, lesson_id=lesson_id, seed=seed)
    entry = json.loads((toy_ladder / RESULTS).read_text())["lessons"][lesson_id]
    tested = evaluate(net.state, digits_of(toy_ladder).test)
    assert (net.lesson_id, net.seed, net.epoch, net.state.lesson) == (lesson_id, seed, 2, LESSONS[lesson_id])
    assert int(net.state.step) == 2 * 3
    assert int(tested.correct) == entry["test_correct"][seed][-1]
    assert float(tested.loss) == pytest.approx(entry["test_loss"][seed][-1], rel=1e-6)


def test_all_lessons_are_read_in_the_course_s_order_and_with_their_first_seed(toy_ladder):
    assert [(net.lesson_id, net.seed) for net in read_nets(toy_ladder)] == [(lesson_id, 0) for lesson_id in LESSONS]


def test_a_run_of_a_group_side_by_side_is_found(dataset, tmp_path):
    lesson = LESSONS["relu"]
    folder = tmp_path / CHECKPOINTS / "relu"
    runs = [Run(seed) for seed in (3, 4, 5)]
    epochs = list(train_runs(lesson, dataset, runs, epochs=1, side_by_side=3, checkpoints=Checkpoints(folder)))
    assert len(list(folder.iterdir())) == 1
    described = {
        "data": {},
        "config": {"seeds": [3, 4, 5], "lessons": {"relu": as_json(lesson)}},
        "environment": {},
    }
    write_results(tmp_path, described)
    for run, epoch in zip(runs, epochs, strict=True):
        (net,) = read_nets(tmp_path, seed=run.seed)
        assert float(evaluate(net.state, dataset.test).loss) == pytest.approx(epoch.test_loss, rel=1e-5)
    assert read_nets(tmp_path)[0].seed == 3


def as_json(lesson):
    return json.loads(json.dumps(dataclasses.asdict(lesson)))


@pytest.mark.parametrize(
    ("options", "says"), [({"seed": 7}, "of seed 7"), ({"lesson_id": "cnn"}, "mlp, dropout, relu")]
)
def test_what_is_not_there_is_said(toy_ladder, options, says):
    with pytest.raises(UserError, match=says):
        read_nets(toy_ladder, **options)


def test_reading_touches_nothing_also_while_a_checkpoint_is_written(copy):
    (group,) = (copy / CHECKPOINTS / "mlp").glob("seed-0-*")
    (group / "2" / DIGESTS).unlink()  # as in the middle of a save
    (group / "3.orbax-checkpoint-tmp").mkdir()

    def state():
        return sorted((str(path), path.stat().st_mtime_ns) for path in copy.rglob("*"))

    before = state()
    assert read_nets(copy, lesson_id="mlp")[0].epoch == 1
    assert state() == before


def test_without_a_whole_checkpoint_the_other_lessons_are_read(copy):
    for digests in (copy / CHECKPOINTS / "adam").rglob(DIGESTS):
        digests.write_text("{}")
    assert [net.lesson_id for net in read_nets(copy)] == list(LESSONS)[:-1]
    with pytest.raises(UserError, match="no net of adam that can be used"):
        read_nets(copy, lesson_id="adam")


def test_a_net_that_diverged_is_left_out(run_main, toy_folder, tmp_path):
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
    Checkpoints(tmp_path / CHECKPOINTS / "he" / "seed-0-new").save(
        1, {"step": np.zeros(1, np.int32)}, {"seeds": [0], "epochs": []}
    )
    with pytest.raises(UserError, match="another version"):
        read_nets(tmp_path, lesson_id="he")


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
)
def test_a_damaged_run_is_refused_with_a_sentence(tmp_path, content):
    (tmp_path / RESULTS).write_text(content, encoding="latin-1")
    with pytest.raises(UserError):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "values",
    [{}, {"hidden": 3}, {"optimizer": None}, {"optimizer": {"name": "sgd"}}, {"dtype": 3}, {"new": 1}, None, []],
)
def test_a_lesson_that_is_none_is_refused(values):
    whole = as_json(LESSONS["adam"])
    assert lesson_of_json(whole) == LESSONS["adam"]
    with pytest.raises(UserError):
        lesson_of_json({**whole, **values} if values else values)


def test_a_run_that_is_not_finished_can_be_read(copy):
    (copy / RESULTS).unlink()
    assert read_run(copy)["config"]["seeds"] == [0, 1]
    assert len(read_nets(copy)) == 6


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
