"""Recorded results, to be changed, and pages of reports."""

import json
import shutil
import sys

import pytest
from helpers.report import STUDIES

from mnist_jax.cli import commands as cli
from mnist_jax.runs.files import RESULTS


@pytest.fixture
def recorded(tmp_path):
    """Results of a run of six lessons with five seeds, as recorded, and what writes others into its folder."""

    def write(results):
        (tmp_path / RESULTS).write_text(json.dumps(results))
        return tmp_path

    return json.loads((STUDIES / "ladder" / RESULTS).read_text()), write


@pytest.fixture(scope="package")
def ladder_page(toy_ladder, tmp_path_factory):
    """The page of a ladder; made in a copy, since other tests use the run."""
    run = shutil.copytree(toy_ladder, tmp_path_factory.mktemp("report") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mnist-jax", "report", str(run)])
        cli.main()
    return run / "report.html"


@pytest.fixture(scope="package")
def korean_page(ladder_page):
    """The same in Korean."""
    page = ladder_page.parent / "korean.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mnist-jax", "report", str(page.parent), "--language", "ko", "--out", str(page)])
        cli.main()
    return page
