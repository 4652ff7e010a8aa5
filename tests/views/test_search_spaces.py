"""docs/search_spaces.md has the spaces that are searched."""

import re

from helpers import ROOT

from mnist_jax.studies.spaces import SPACES
from mnist_jax.views.search_spaces import PAGE, search_spaces_table

TEXT = (ROOT / PAGE).read_text()


def test_page_table_matches_the_spaces():
    found = re.search(r"<!-- table of search spaces -->\n\n(.*)\n<!-- end of table", TEXT, re.DOTALL)
    assert found[1] == search_spaces_table(SPACES)


def test_rows_say_what_is_drawn_and_what_trial_0_is():
    rows = search_spaces_table(SPACES).splitlines()
    assert rows[2] == (
        "| sgd | 0.01 to 3 (learning rate / (1 - momentum)) | 1 - momentum: 0.01 to 1 | nesterov: false or true; "
        "schedule: constant or cosine | learning rate 0.01, momentum 0.5, nesterov false |"
    )
    assert len(rows) == 2 + len(SPACES)
