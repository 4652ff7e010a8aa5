"""A lock on a folder, so that only one process works in it."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from mnist_jax.errors import UserError, reason

LOCK = ".mnist_jax.lock"
# Errors of file systems without locks: some network and FUSE ones.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def alone_in(folder: Path, *, wait: bool, notify: Callable[[str], object]) -> Iterator[None]:
    """Hold the folder's lock; it is released however the process ends, and no child process inherits it.

    Args:
      folder: that exists.
      wait: for a process that holds it, instead of raising.
      notify: receives a sentence where the file system has no locks; the block then runs without one.

    Raises:
      UserError: another process holds it.
      OSError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    # Not filelock's soft lock: it cannot know whether a process that was killed on another machine still holds it.
    lock = FileLock(folder / LOCK, blocking=wait, fallback_to_soft=False, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"Another process is at work in {folder}; wait for it, or stop it.") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        notify(f"{folder} cannot be locked ({reason(error)}): make sure that no other process works in it.")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()  # while it is held: a waiting process notices and creates a new file
        lock.release()
