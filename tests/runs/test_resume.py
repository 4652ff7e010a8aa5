"""What a study may be resumed with, and what is reported then."""

import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from helpers import NUMERICS, jax_setting, script, toy_digits, write_idx_folder
from helpers.journal import FIRST
from helpers.report import Page

from mnist_jax import UserError
from mnist_jax.cli import commands as cli
from mnist_jax.runs import provenance
from mnist_jax.runs.files import JOURNAL, RESULTS
from mnist_jax.runs.journal import Journal, open_study
from mnist_jax.runs.provenance import describe_run

STUDIES = [
    "train", "ladder", "reproduce_notebooks", "sgd_vs_adam", "optimizers", "all_of_optax", "initialisation",
    "running_variance",
]  # fmt: skip


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    """Study -> what it writes first into its folder."""
    found = {}
    digits = write_idx_folder(tmp_path_factory.mktemp("toy"), toy_digits(72), toy_digits(20, seed=1))

    def stop(out, name, header, **_):
        found[header["study"]] = header
        raise UserError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_jax.cli.study.open_study", stop)
        patch.setattr("mnist_jax.studies.published.comparable", lambda *_: True)  # toy digits will do
        for study in STUDIES:
            program = cli if study == "train" else script(study)
            if hasattr(program, "open_study"):
                patch.setattr(program, "open_study", stop)
            arguments = ["train", "he"] if study == "train" else []
            patch.setattr(sys, "argv", ["program", *arguments, "--data", str(digits)])
            with pytest.raises(SystemExit):
                program.main()
    return found


def test_every_study_has_a_distinct_name(headers):
    assert sorted(headers) == sorted(STUDIES)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(STUDIES, 2)))
def test_no_study_resumes_another_one(headers, tmp_path, first, second):
    folder, kept = open_study(tmp_path / "out", "name", headers[first])
    with kept:
        kept.add({"seed": 0})
    (folder / RESULTS).write_text("precious")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=f"holds another study \\(study is {first}, not {second}\\)"):
        open_study(folder, "name", {**headers[first], "study": second}, resume=True)
    with pytest.raises(UserError, match="holds another study"):
        open_study(folder, "name", headers[second], resume=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_ladder_does_not_resume_the_running_variance(run_main, toy_folder, tmp_path, monkeypatch):
    common = ["--data", toy_folder, "--seeds", 2, "--epochs", 1, "--split", "notebooks", "--out", tmp_path / "out"]
    variance = script("running_variance")
    tested = {"correct": 10, "loss": 1.0}
    monkeypatch.setattr(variance, "tested_twice", lambda *_: {"flax": tested, "pytorch": tested})
    assert run_main(variance.main, *common)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    lessons = ["--lessons", "batch_norm", "he", "adam"]
    status, _, err = run_main(script("ladder").main, *common, *lessons, "--resume")
    assert status == 2
    assert "holds another study (study is running_variance, not ladder)" in err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def train(toy_folder, out, *more):
    return ["train", "mlp", "--hidden", 8, "--epochs", 2, "--data", toy_folder, "--out", out, *more]


def test_finished_run_is_not_trained_or_shown_again(run_main, toy_folder, tmp_path):
    out = tmp_path / "run"
    status, printed, _ = run_main(cli.main, *train(toy_folder, out))
    assert (status, printed.count("train loss")) == (0, 2)
    (out / RESULTS).unlink()
    status, printed, _ = run_main(cli.main, *train(toy_folder, out, "--resume"))
    assert (status, printed.count("train loss")) == (0, 0)
    assert (out / JOURNAL).read_text().count("test_correct") == 1
    assert (out / RESULTS).exists()


def test_run_resumed_elsewhere_is_reported(run_main, toy_folder, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.cli.study.Journal.add", lambda *_: 1 / 0)  # a crash before the run is in the journal
        with pytest.raises(ZeroDivisionError):
            run_main(cli.main, *train(toy_folder, out))
    monkeypatch.setattr(provenance, "processor", lambda: "abacus")
    status, printed, _ = run_main(cli.main, *train(toy_folder, out, "--resume"))
    assert status == 0
    assert "resumed in another environment (processor abacus instead of " in " ".join(printed.split())
    found = json.loads((out / RESULTS).read_text())
    assert found["environment"]["processor"] != "abacus"
    assert [other["processor"] for other in found["resumed_in"]] == ["abacus"]
    assert run_main(cli.main, "report", out)[0] == 0
    page = (out / "report.html").read_text()
    assert "CPU cores, resumed in another environment" in page
    assert "processor abacus instead of" in page


@pytest.mark.parametrize("old", [False, True])
def test_run_resumed_by_another_program_is_reported(run_main, toy_folder, tmp_path, monkeypatch, old):
    """If the record is `old`, from before programs were recorded, the results record it, but nothing is reported."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.cli.study.Journal.add", lambda *_: 1 / 0)  # a crash before the run is in the journal
        if old:
            here = {name: value for name, value in provenance.environment().items() if name not in FIRST}
            patch.setattr(provenance, "environment", lambda: here)
        patch.setattr(provenance, "_own_checkout", lambda: {"commit": "1" * 40, "dirty": False, "lock_sha256": "1"})
        with pytest.raises(ZeroDivisionError):
            run_main(cli.main, *train(toy_folder, out))
    monkeypatch.setattr(provenance, "_own_checkout", lambda: {"commit": "2" * 40, "dirty": True, "lock_sha256": None})
    status, printed, _ = run_main(cli.main, *train(toy_folder, out, "--resume"))
    assert status == 0
    assert printed.count("The program may have changed") == (not old)
    assert "another environment" not in printed
    assert "None" not in printed
    found = json.loads((out / RESULTS).read_text())
    assert found["environment"].get("commit") == (None if old else "1" * 40)
    assert [(other["commit"], other["dirty"]) for other in found["resumed_in"]] == [("2" * 40, True)]
    assert run_main(cli.main, "report", out)[0] == 0
    page = Page((out / "report.html").read_text()).text
    assert "CPU cores, resumed by another program" in page
    assert "commit 222222222222, with uncommitted changes" in page.partition("Resumed with")[2]
    assert "None" not in page


def test_resuming_on_another_number_of_devices_reports_rounding(run_main, toy_folder, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("mnist_jax.cli.study.Journal.add", lambda *_: 1 / 0)  # a crash before the run is in the journal
        with pytest.raises(ZeroDivisionError):
            run_main(cli.main, *train(toy_folder, out, "--devices-per-run", 2))
    status, printed, _ = run_main(cli.main, *train(toy_folder, out, "--devices-per-run", 4, "--resume"))
    assert status == 0
    assert "in another environment (devices_per_run 4 instead of 2): its results may differ" in " ".join(
        printed.split()
    )
    assert json.loads((out / RESULTS).read_text())["environment"]["devices_per_run"] == 2


def test_resume_with_other_random_numbers_is_refused(run_main, toy_folder, tmp_path):
    assert run_main(cli.main, *train(toy_folder, tmp_path / "run"))[0] == 0
    before = (tmp_path / "run" / JOURNAL).read_bytes()
    with jax_setting("jax_threefry_partitionable", False):
        status, _, err = run_main(cli.main, *train(toy_folder, tmp_path / "run", "--resume"))
    assert status == 2
    advice = "set JAX_THREEFRY_PARTITIONABLE=True to resume it, or choose another folder with --out."
    assert err == f"error: {tmp_path / 'run'} was started with other settings of JAX; {advice}\n"
    assert (tmp_path / "run" / JOURNAL).read_bytes() == before


def test_requested_jax_settings_restore_the_original_ones(tmp_path, dataset):
    def header():
        return describe_run("train", dataset, {}, command="")

    with contextlib.ExitStack() as settings:
        for name, value in NUMERICS.items():
            settings.enter_context(jax_setting(name, value))
        begun = header()
        Journal(tmp_path, begun).__exit__(None)
    with pytest.raises(UserError) as refused:
        Journal(tmp_path, header())
    asked = dict(re.findall(r"set (\w+)=(\w+)", str(refused.value)))
    code = "import json; from mnist_jax.runs.provenance import numerics; print(json.dumps(numerics()))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert json.loads(done.stdout) == begun["config"]["jax"]


def test_unset_jax_setting_must_be_unset_to_resume(tmp_path, dataset):
    Journal(tmp_path, describe_run("train", dataset, {}, command="")).__exit__(None)
    with jax_setting("jax_default_matmul_precision", "highest"):
        found = describe_run("train", dataset, {}, command="")
        with pytest.raises(UserError, match="; unset JAX_DEFAULT_MATMUL_PRECISION to resume it, or choose"):
            Journal(tmp_path, found)
        with pytest.raises(UserError, match="holds another study"):  # no setting would help
            Journal(tmp_path, {**found, "study": "ladder"})


def test_training_on_a_full_disk_is_refused(toy_folder, tmp_path):
    command = shlex.join([sys.executable, "-m", "mnist_jax", *map(str, train(toy_folder, tmp_path / "run"))])
    # No file may grow beyond 1 KB.
    done = subprocess.run(["bash", "-c", f"ulimit -f 1; exec {command}"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path / 'run' / JOURNAL} cannot be written (File too large); choose another folder with --out.\n"
    )
    assert not list((tmp_path / "run").iterdir())
