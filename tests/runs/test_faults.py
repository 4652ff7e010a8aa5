"""Whatever has happened to a run's folder before training continues, nothing is lost."""

import pytest
from helpers import called, end_of_training, room_for, toy_digits, write_idx_folder

from mnist_jax.cli import commands as cli
from mnist_jax.runs.files import CHECKPOINTS, JOURNAL


def train(toy_folder, out, *more):
    return ["train", "adam", "--hidden", 16, 8, "--epochs", 4, "--data", toy_folder, "--out", out, *more]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The data, and the end of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("uninterrupted")
    toy_folder = write_idx_folder(root / "toy", toy_digits(72), toy_digits(20, seed=1))
    called(cli.main, *train(toy_folder, root / "run"))
    return toy_folder, end_of_training(root / "run")


@pytest.fixture
def trained(uninterrupted, run_main, tmp_path):
    """The folder of a run that is at its end."""
    assert run_main(cli.main, *train(uninterrupted[0], tmp_path / "run"))[0] == 0
    return tmp_path / "run"


def forget_the_end(run):
    """Pretend that the process was killed before the run was in the journal; the file of its last checkpoint."""
    (run / JOURNAL).write_text((run / JOURNAL).read_text().splitlines()[0] + "\n")
    (newest,) = (run / CHECKPOINTS).rglob("4-*.safetensors")
    return newest


def test_existing_run_is_refused_without_resume(uninterrupted, trained, run_main):
    toy_folder, expected = uninterrupted
    status, out, err = run_main(cli.main, *train(toy_folder, trained))
    assert (status, out) == (2, "")
    advice = "continue it with --resume, or choose another folder with --out."
    assert err == f"error: {trained} already holds a run; {advice}\n"
    assert end_of_training(trained) == expected


@pytest.mark.parametrize("more", [["--seed", 1], ["--epochs", 9], ["--learning-rate", 0.5]])
def test_different_run_does_not_resume(uninterrupted, trained, run_main, more):
    toy_folder, expected = uninterrupted
    status, _, err = run_main(cli.main, *train(toy_folder, trained, "--resume", *more))
    assert status == 2
    assert "holds another study (config." in err
    assert end_of_training(trained) == expected


def test_resume_needs_an_existing_run(toy_folder, run_main, tmp_path):
    status, _, err = run_main(cli.main, *train(toy_folder, tmp_path / "none", "--resume"))
    assert (status, err.count("\n")) == (2, 1)
    assert "contains no run to resume" in err
    assert not (tmp_path / "none").exists()


def test_damaged_checkpoint_is_reported_and_the_previous_one_used(uninterrupted, trained, run_main):
    toy_folder, expected = uninterrupted
    newest = forget_the_end(trained)
    newest.write_bytes(newest.read_bytes()[:-1])
    status, out, err = run_main(cli.main, *train(toy_folder, trained, "--resume"))
    assert (status, err) == (0, "")
    assert "The checkpoint of epoch 4 in" in out
    assert end_of_training(trained) == expected


def test_full_disk_keeps_earlier_checkpoints(uninterrupted, trained, run_main):
    toy_folder, expected = uninterrupted
    forget_the_end(trained).unlink()
    with room_for(4_000):  # the journal still opens, a checkpoint does not fit
        status, _, err = run_main(cli.main, *train(toy_folder, trained, "--resume"))
    assert (status, err.count("\n")) == (2, 1)
    assert "A checkpoint cannot be written" in err
    assert run_main(cli.main, *train(toy_folder, trained, "--resume"))[::2] == (0, "")
    assert end_of_training(trained) == expected
