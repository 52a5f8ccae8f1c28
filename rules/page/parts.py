"""The page's external part: Pyodide, as published on npm, with the integrity in the lock.

`archive(lock)` returns the bytes that the lock names, whoever served them. They are stored in the
cache; a different file there is fetched again. Nothing in a package is run.
"""

import base64
import hashlib
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

from aicert.errors import ConfigError, ToolError
from aicert.files.atomic import write_atomically
from aicert.frozen import dataclass
from rules.host.bootstrap import cache_directory
from rules.host.progress import say

LOCK = Path("browser/page/parts.lock.toml")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")
LIMIT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """An npm package, its version, and the SHA-512 of its archive as npm writes it."""

    name: str
    version: str
    integrity: str


def read_lock(path: Path, name: str = "pyodide") -> Lock:
    """Return the lock's entry for the package. Raises ConfigError if there is none."""
    part = tomllib.loads(path.read_text(encoding="utf-8")).get(name)
    version, integrity = (str(part.get(key)) if isinstance(part, dict) else "" for key in
                          ("version", "integrity"))  # fmt: skip
    if not _VERSION.fullmatch(version) or not _INTEGRITY.fullmatch(integrity):
        raise ConfigError(f"{path} has no version and integrity of {name}")
    return Lock(name=name, version=version, integrity=integrity)


def integrity_of(data: bytes) -> str:
    """Return the SHA-512 of `data` as npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


def archive(lock: Lock) -> bytes:
    """Return the package's archive, from the cache or from npm. Raises ToolError if it is not the
    locked one.
    """
    package = f"{lock.name}@{lock.version}"
    place = cache_directory() / f"{lock.name}-{lock.version}.tgz"
    if place.is_file():
        data = place.read_bytes()
        if integrity_of(data) == lock.integrity:
            return data
    say(f"fetching {package} from npm")
    data = _fetched(package)
    if integrity_of(data) != lock.integrity:
        raise ToolError(
            f"npm's {package} is not the locked one"
            f"\n  locked  {lock.integrity}\n  found   {integrity_of(data)}"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, data)
    return data


def _fetched(package: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--loglevel=error", package, "--pack-destination", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        except FileNotFoundError:
            raise ToolError("npm is not installed", hint="apt install npm") from None
        except subprocess.TimeoutExpired:
            raise ToolError(f"npm did not answer within {LIMIT_S} s") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise ToolError(f"npm cannot fetch {package}\n{done.stderr.strip()[-2000:]}")
        return archives[0].read_bytes()
