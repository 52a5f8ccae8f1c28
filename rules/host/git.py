"""What git refuses, in its own words, with what to do about it."""

import re
import subprocess
from pathlib import Path

from aicert.errors import ToolError

_MOST = 500


def refused(root: Path, action: str, stderr: bytes) -> ToolError:
    """The error for a git command that failed in `root`; `stderr` is what it said."""
    reason = stderr.decode(errors="replace")[-_MOST:].strip()
    return ToolError(f"git {action} failed: {reason}", hint=_hint(root, reason))


def _hint(root: Path, reason: str) -> str | None:
    owner = re.search(r"safe\.directory (\S+)", reason)
    if "dubious ownership" in reason:
        # Git refuses what another user could have prepared; only this one can say that it is fine.
        return f"git config --global --add safe.directory {owner[1] if owner else root.resolve()}"
    if "not a git repository" in reason:
        return "git init, or work in a clone: an unpacked archive has no history"
    if re.search(r"bad object|shallow|missing (blob|tree|commit)", reason):
        return "git fetch --unshallow"
    return None


def is_shallow(root: Path) -> bool:
    """Whether older commits were left out of this clone."""
    words = ["git", "rev-parse", "--is-shallow-repository"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() == "true"
