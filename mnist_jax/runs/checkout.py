"""Which program made a result: the git checkout that the package lies in, and its lock file."""

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

# What results depend on; not documents, tests, or results that are written into the checkout.
_PROGRAM = ("mnist_jax", ":(glob)experiments/**/*.py")


def checkout(root: Path) -> dict[str, Any]:
    """Describe the checkout at `root`, the folder that holds `mnist_jax`, without ever failing or printing.

    Returns:
      `commit`, its hash; None where git is missing or refuses, or no commit of the repository holds the package, as in
      a virtual environment. `dirty`, whether the program differs from the commit's: a file of `mnist_jax` or a
      script of `experiments` was changed, added or deleted, and is not ignored; None without a commit. `lock_sha256`,
      of `requirements.lock`; None where there is none.
    """
    found: dict[str, Any] = {"commit": None, "dirty": None, "lock_sha256": None}
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        commit, _ = _git(root, "rev-parse", "HEAD", "HEAD:./mnist_jax").split()
        changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *_PROGRAM)
        found |= {"commit": commit, "dirty": bool(changed)}
    with contextlib.suppress(OSError):
        found["lock_sha256"] = hashlib.sha256((root / "requirements.lock").read_bytes()).hexdigest()
    return found


def _git(root: Path, *arguments: str) -> str:
    """Git's output; nothing is changed, and no daemon started."""
    return subprocess.run(
        ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments],
        cwd=root,
        # In a git hook, these variables name the hook's repository.
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout
