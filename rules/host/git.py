"""A failed git command, in git's own words, with what to do about it."""

import re
import subprocess
from pathlib import Path

from aicert.errors import ToolError

_MOST = 500


def refused(root: Path, action: str, stderr: bytes) -> ToolError:
    """Return the error for a git command that failed in `root` with this `stderr`."""
    reason = stderr.decode(errors="replace")[-_MOST:].strip()
    return ToolError(f"git {action} failed: {reason}", hint=_hint(root, reason))


def _hint(root: Path, reason: str) -> str | None:
    owner = re.search(r"safe\.directory (\S+)", reason)
    if "dubious ownership" in reason:
        # Git refuses files that another user could have planted; only this user can approve them.
        return f"git config --global --add safe.directory {owner[1] if owner else root.resolve()}"
    if "not a git repository" in reason:
        return "git init, or use a clone: an unpacked archive has no history"
    if re.search(r"bad object|shallow|missing (blob|tree|commit)", reason):
        return "git fetch --unshallow"
    return None


def is_shallow(root: Path) -> bool:
    """Whether this clone lacks older commits."""
    words = ["git", "rev-parse", "--is-shallow-repository"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() == "true"
