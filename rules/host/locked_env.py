"""An environment for a third-party program, made once from its hashed lock.

It is in the cache directory under the lock's digest; `complete`, written last, marks it as
complete. Making it needs the package registry, using it needs no network.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from rules.host import bootstrap, installer, training_env


def interpreter(lock: Path, name: str, on_line: Callable[[str], None] | None = None) -> Path:
    """Return the Python of the environment `name`, which is made if missing. Raises InstallError.

    `on_line` is called if it has to be made.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    environments = bootstrap.cache_directory() / "envs"
    environment = environments / f"{name}-{digest[:12]}"
    python = environment / "bin" / "python"
    if (environment / "complete").exists():
        return python
    with installer.only_maker(environments / name):
        if not (environment / "complete").exists():
            if on_line is not None:
                on_line(f"making {environment}")
            installer.make_environment(training_env.find_python(), environment)
            installer.install(python, lock)
            (environment / "complete").touch()
    return python
