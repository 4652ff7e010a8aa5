import errno

import pytest

from mnist_jax.errors import reason


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "file"), "No space left on device"),
        (ValueError("first line.\nsecond line"), "first line"),
        (ValueError(" \n"), "ValueError"),
        (EOFError(), "EOFError"),
    ],
)
def test_reason_is_a_few_words(error, says):
    assert reason(error) == says
