import contextlib
import errno
import fcntl
import os
import re
import subprocess
import sys

import pytest
from filelock import FileLock

from mnist_jax import UserError
from mnist_jax.data import tfds as tfds_mnist
from mnist_jax.data.locks import LOCK, alone_in


def refuse(number):
    """`fcntl.flock` on a file system that answers so."""

    def flock(*_):
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def without_locks(request, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse(request.param))
    return os.strerror(request.param)


def test_lock_works_and_leaves_nothing(tmp_path):
    with alone_in(tmp_path, wait=False, notify=pytest.fail):
        for _ in range(2):  # who is refused takes nothing away
            with (
                pytest.raises(UserError, match="Another process is at work"),
                alone_in(tmp_path, wait=False, notify=pytest.fail),
            ):
                pass
    assert not list(tmp_path.iterdir())
    with alone_in(tmp_path, wait=False, notify=pytest.fail):
        pass


def test_lock_of_the_next_holder_is_kept(tmp_path, monkeypatch):
    """Also where another process takes the lock at the very moment in which it is released."""
    next_one = contextlib.ExitStack()
    release = FileLock.release

    def released(lock):
        monkeypatch.undo()
        release(lock)
        next_one.enter_context(alone_in(tmp_path, wait=False, notify=pytest.fail))

    monkeypatch.setattr(FileLock, "release", released)
    with next_one:
        with alone_in(tmp_path, wait=False, notify=pytest.fail):
            pass
        with (
            pytest.raises(UserError, match="Another process is at work"),
            alone_in(tmp_path, wait=False, notify=pytest.fail),
        ):
            pass


def test_missing_locks_are_reported_once(tmp_path, without_locks):
    said = []
    with alone_in(tmp_path, wait=False, notify=said.append):
        pass
    (sentence,) = said
    assert sentence.startswith(f"{tmp_path} cannot be locked ({without_locks})")
    assert not list(tmp_path.iterdir())


def test_without_locks_data_can_be_prepared(tmp_path, without_locks):
    said = pytest.warns(UserWarning, match=re.escape(f"cannot be locked ({without_locks})"))
    with said, tfds_mnist._alone_in(tmp_path / "tfds"):
        pass
    assert len(said) == 1


def test_other_errors_are_not_mistaken_for_missing_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), alone_in(tmp_path, wait=False, notify=pytest.fail):
        pass


HOLD = """
import os, sys, time
from pathlib import Path
from mnist_jax.data.locks import alone_in
with alone_in(Path(sys.argv[1]), wait=False, notify=print):
    if not os.fork():
        os.setpgid(0, 0)
        print(os.getpid(), flush=True)  # once it has let go of the lock, which takes a moment
    time.sleep(100)
"""


def test_killed_process_releases_the_lock_despite_a_living_child(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match="Another process"), alone_in(tmp_path, wait=False, notify=pytest.fail):
            pass
        holder.kill()
        holder.wait()
        assert (tmp_path / LOCK).exists()
        with alone_in(tmp_path, wait=False, notify=pytest.fail):
            os.kill(child, 0)  # it lives
    finally:
        holder.kill()
        os.kill(child, 9)
        holder.communicate()


def test_waiting_process_gets_the_lock(tmp_path):
    code = """
import sys
from pathlib import Path
from mnist_jax.data.locks import alone_in
print("waits", flush=True)
with alone_in(Path(sys.argv[1]), wait=True, notify=print):
    print((Path(sys.argv[1]) / "done").exists())
"""
    with alone_in(tmp_path, wait=False, notify=pytest.fail):
        waiting = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        assert waiting.stdout.readline() == "waits\n"
        (tmp_path / "done").touch()
    assert waiting.communicate(timeout=60)[0] == "True\n"
