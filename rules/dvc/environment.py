"""DVC's own environment, made from a hashed lock when a command first needs DVC.

`AICERT_DVC` names another `dvc` program instead, for example one with the plugin for a remote that
the lock lacks. In either case its downloads are compared by SHA-256.
"""

import hashlib
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from aicert.errors import ConfigError
from rules.host import installer, progress
from rules.host.bootstrap import cache_directory
from rules.host.places import CODE
from rules.host.training_env import as_tool_errors, compile_code, install

LOCK = CODE / "rules" / "dvc-requirements.lock"
_MARKER = "complete"


def location() -> Path:
    """Return the path of the environment for the current lock, whether it exists or not."""
    return cache_directory() / "envs" / f"dvc-{_digest()[:12]}"


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def program() -> Path:
    """Return the `dvc` to run. Its environment is made first if it is missing. Raises ToolError."""
    own = os.environ.get("AICERT_DVC")
    if own:
        on_path = shutil.which(own)
        if on_path is None:
            raise ConfigError(f"AICERT_DVC is not a program: {own}", hint="unset AICERT_DVC")
        return Path(on_path)
    environment = location()
    if not _is_complete(environment):
        progress.say("making DVC's environment (200 MB, once)")
        with progress.task("DVC's environment", unit="steps") as bar:
            note = partial(_note, bar)
            with as_tool_errors(), installer.only_maker(environment, note):
                if not _is_complete(environment):
                    _make(environment, bar, note)
    return environment / "bin" / "dvc"


def _is_complete(environment: Path) -> bool:
    try:
        # Its Python may have been removed since, or belong to another user.
        if not os.access(environment / "bin" / "python", os.X_OK):
            return False
        return (environment / _MARKER).read_text(encoding="ascii") == _digest()
    except (FileNotFoundError, NotADirectoryError):
        return False


def _note(bar: progress.Bar, line: str) -> None:
    bar.update(note=line)


def _make(environment: Path, bar: progress.Bar, note: installer.OnLine) -> None:
    # Any Python that `./doit` runs on will do.
    installer.make_environment(Path(sys.executable), environment, note)
    install(environment, LOCK, note, lambda done, total: bar.update(done=done, total=total))
    # Otherwise, if Python may not write here, each command compiles again and takes twice as long.
    compile_code(environment, note)
    marker = environment / (_MARKER + ".new")
    marker.write_text(_digest(), encoding="ascii")
    marker.replace(environment / _MARKER)
