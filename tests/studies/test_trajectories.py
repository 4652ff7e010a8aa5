"""What the recorded trajectories can be compared with, and what happens if they are damaged."""

import pytest
from helpers import jax_setting

from mnist_jax import UserError, data
from mnist_jax.studies import verification


def test_a_seed_offset_of_jax_is_refused_and_not_called_different():
    with jax_setting("jax_random_seed_offset", 5), pytest.raises(UserError, match="JAX_RANDOM_SEED_OFFSET is set"):
        verification.check_comparable(data.load("sample"))


@pytest.mark.parametrize("content", [None, "{", ""])
def test_damaged_trajectories_are_refused(monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "trajectories.json").write_text(content)
    monkeypatch.setattr(verification, "files", lambda _: tmp_path)
    with pytest.raises(UserError, match=r"cannot be read .* install mnist_jax again"):
        verification.recorded.__wrapped__()
