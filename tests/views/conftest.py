"""Recorded results, to be changed."""

import json

import pytest
from helpers.report import STUDIES

from mnist_jax.runs.files import RESULTS


@pytest.fixture
def recorded(tmp_path):
    """Results of a run of six lessons with five seeds, as recorded, and what writes others into its folder."""

    def write(results):
        (tmp_path / RESULTS).write_text(json.dumps(results))
        return tmp_path

    return json.loads((STUDIES / "ladder" / RESULTS).read_text()), write
