"""Memory traffic of a step."""

from timing.side_by_side import bytes_per_step

from mnist_jax import LESSONS


def test_bytes_of_a_step():
    """Weights read twice and written, gradients written and read; momentum is a number a weight, Adam's state two."""
    mlp = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert bytes_per_step(LESSONS["mlp"]) == 4 * mlp * (5 + 2)
    assert bytes_per_step(LESSONS["adam"]) == 4 * (mlp + 2 * (512 + 256)) * (5 + 4)
