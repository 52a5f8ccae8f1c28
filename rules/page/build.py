"""Build one file from the page's text, its scripts, the verifier and Python: always the same bytes.

The verifier is included as it is in `aicert/`, uncompressed, in an archive with fixed dates;
Pyodide is included as npm packed it. So nothing depends on how some version of a library
compresses. The page's policy (CSP) allows only one script, by its hash, and no network.
"""

import base64
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from aicert.errors import ConfigError
from aicert.exports.page import STYLE
from rules.page import parts
from rules.page.parts import LOCK, Lock, read_lock

SOURCES = Path("browser/page")
# Modules that the bridge imports, and what these need; of the command line what shows a result.
ROOMS = (
    "appraisal", "audits", "crypto", "files", "formats", "model_signature", "tlog", "trust",
    "verifier",
)  # fmt: skip
SINGLE = (
    "aicert/__init__.py", "aicert/errors.py", "aicert/frozen.py", "aicert/text.py",
    "aicert/cli/__init__.py", "aicert/cli/table.py", "aicert/cli/verify/__init__.py",
    "aicert/cli/verify/conditions.py", "aicert/cli/verify/audit_certificate.py",
    "aicert/cli/verify/evaluations.py", "aicert/cli/verify/evidence.py",
    "aicert/cli/verify/reproductions.py", "aicert/cli/verify/section.py",
    "aicert/exports/__init__.py",
    "aicert/exports/facts.py", "aicert/exports/page.py", "aicert/exports/plot.py",
    "browser/__init__.py", "browser/page/__init__.py", "browser/page/bridge.py",
    "browser/page/hashing.py",
)  # fmt: skip
# Zip has no date before this one.
DATE = (1980, 1, 1, 0, 0, 0)


def carried(root: Path) -> list[str]:
    """Return the files of this repository that are in the page, sorted."""
    folders = [root / "aicert" / room for room in ROOMS] + [root / "browser/crypto"]
    files = [path for folder in folders for path in folder.rglob("*")]
    kept = [path for path in files if path.suffix in (".py", ".pem", ".toml", ".json")]
    names = sorted({*SINGLE, *(path.relative_to(root).as_posix() for path in kept)})
    missing = [name for name in names if not (root / name).is_file()]
    if missing or len(names) < len(SINGLE) + len(ROOMS):
        raise ConfigError(f"{', '.join(missing) or root} is missing")
    return names


def archive(root: Path, more: Sequence[str] = ()) -> bytes:
    """Return a zip of these files, and of what a test needs in addition."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for name in (*carried(root), *more):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            packed.writestr(entry, (root / name).read_bytes())
    return out.getvalue()


def build(root: Path) -> bytes:
    """Return the page."""
    if not (root / SOURCES).is_dir():
        raise ConfigError("the page can only be built in aicert's own repository")
    lock = read_lock(root / LOCK)
    worker = (root / SOURCES / "worker.js").read_text(encoding="utf-8")
    return assemble(root, lock, parts.archive(lock), archive(root), worker)


def assemble(root: Path, lock: Lock, tarball: bytes, app: bytes, worker: str) -> bytes:
    """Return the page made from these parts."""
    page, style, script = (
        (root / SOURCES / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", "main.js")
    )
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = "\n" + script
    for text in (worker, script):
        if "</script" in text.lower() or "<!--" in text:
            raise ConfigError("a script of the page contains its element's end tag")
    values = {
        "POLICY": policy(script),
        "STYLE": STYLE + style,
        "VERSION": project["version"],
        "PYODIDE": lock.version,
        "INTEGRITY": lock.integrity,
        "TARBALL": _lines(tarball),
        "APP": _lines(app),
        "WORKER": worker,
        "MAIN": script,
    }
    pieces = page.split("@")
    # Every second piece is the name of a value: the text itself has no @.
    if sorted(pieces[1::2]) != sorted(values):
        raise ConfigError(f"{SOURCES / 'page.html'} must name each of {', '.join(values)} once")
    filled = [values[piece] if index % 2 else piece for index, piece in enumerate(pieces)]
    return "".join(filled).encode()


def policy(script: str) -> str:
    """Return the page's CSP: it may run this script and the worker that it makes, and
    nothing else.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' 'wasm-unsafe-eval'; worker-src blob:; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )


def _lines(data: bytes) -> str:
    """Base64 in lines that editors and diffs can handle."""
    text = base64.b64encode(data).decode()
    return "\n".join(text[start : start + 4096] for start in range(0, len(text), 4096))
