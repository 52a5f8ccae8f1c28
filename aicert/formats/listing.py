"""A directory's listing, as `sha256sum` prints it, and the digest that stands for the directory.

The digest is `dirHash:` and the SHA-256 of the listing sorted by path (in-toto digest set,
`dirHash`). `sha256sum -c` checks a listing without any tool of ours.
"""

import hashlib
import re
from collections.abc import Mapping

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest, FileFact
from aicert.formats.paths import check_paths

# MAX_FILES lines of some 130 bytes.
MAX_LISTING = 1 << 27


def listing(files: Mapping[str, FileFact] | Mapping[str, str]) -> bytes:
    """Return what `sha256sum` prints for these files, sorted by path bytes: `HEX  PATH` lines.

    `files` maps a path to its FileFact or to its 64 hex digits.
    """
    check_paths(files)
    lines = []
    for path in sorted(files, key=lambda p: p.encode()):
        fact = files[path]
        lines.append(f"{fact if isinstance(fact, str) else fact.sha256}  {path}\n")
    return "".join(lines).encode()


def parse_listing(data: bytes) -> dict[str, str]:
    """Read a listing back into `{path: hex}`; only the form that `listing` gives is accepted."""
    if len(data) > MAX_LISTING:
        raise EvidenceError(f"listing is larger than {MAX_LISTING} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise EvidenceError("listing is not UTF-8") from None
    files: dict[str, str] = {}
    position = 0
    entry = re.compile(_LINE)
    while position < len(text):
        line = entry.match(text, position)
        if line is None or line[2] in files:
            raise EvidenceError(
                f"line {len(files) + 1} of the listing is not `HEX  PATH`, or is repeated"
            )
        files[line[2]] = line[1]
        position = line.end()
    if listing(files) != data:
        raise EvidenceError("listing is not canonical: it is not sorted by path")
    return files


def dir_digest(files: Mapping[str, FileFact] | Mapping[str, str]) -> Digest:
    """Return the `dirHash:` digest of a tree of files."""
    return Digest("dirHash", hashlib.sha256(listing(files)).hexdigest())


# `.` does not match a line end; check_path refuses every other character that a path cannot hold.
_LINE = r"([0-9a-f]{64})  (.+)\n"


EMPTY_DIR = Digest("dirHash", hashlib.sha256(b"").hexdigest())
EMPTY_FILE_HEX = hashlib.sha256(b"").hexdigest()
