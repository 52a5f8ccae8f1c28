"""What the page takes from others: Pyodide, as npm has it, by the integrity in the lock.

Promises: `pyodide(place)` gives the bytes that the lock names, whoever served them. They are kept
in the cache; what is there and is not the same is fetched again.
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
    """Pyodide's version, and the SHA-512 of its package as npm writes it."""

    version: str
    integrity: str


def read_lock(path: Path) -> Lock:
    """The lock; ConfigError where it is none."""
    part = tomllib.loads(path.read_text(encoding="utf-8")).get("pyodide")
    version, integrity = (str(part.get(key)) if isinstance(part, dict) else "" for key in
                          ("version", "integrity"))  # fmt: skip
    if not _VERSION.fullmatch(version) or not _INTEGRITY.fullmatch(integrity):
        raise ConfigError(f"{path} names no version of Pyodide and its integrity")
    return Lock(version=version, integrity=integrity)


def integrity_of(data: bytes) -> str:
    """As npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


def pyodide(lock: Lock) -> bytes:
    """The package's archive."""
    place = cache_directory() / f"pyodide-{lock.version}.tgz"
    if place.is_file():
        data = place.read_bytes()
        if integrity_of(data) == lock.integrity:
            return data
    say(f"fetching pyodide {lock.version} from npm")
    data = _fetched(lock.version)
    if integrity_of(data) != lock.integrity:
        raise ToolError(
            f"npm gave another pyodide {lock.version} than the lock names"
            f"\n  locked  {lock.integrity}\n  found   {integrity_of(data)}"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, data)
    return data


def _fetched(version: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"pyodide@{version}", "--pack-destination", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        except FileNotFoundError:
            raise ToolError("npm is not installed", hint="apt install npm") from None
        except subprocess.TimeoutExpired:
            raise ToolError(f"npm did not answer within {LIMIT_S} s") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise ToolError(f"npm cannot fetch pyodide {version}\n{done.stderr.strip()[-400:]}")
        return archives[0].read_bytes()
