"""Digests of files and directories, and which paths a certified tree may hold.

A file is `sha256:` and 64 lowercase hex; a directory is `dirHash:` and 64 hex, the SHA-256 of its
`sha256sum` listing sorted by path (in-toto digest set, `dirHash`). The kind is part of the digest
everywhere: a *file* that is the listing would have the same hex.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from aicert.errors import EvidenceError

Kind = Literal["sha256", "dirHash"]

HEX = frozenset("0123456789abcdef")
# Linux PATH_MAX and NAME_MAX: longer paths could not be written back to a disk.
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
# A shard list, a tokenizer and a code repository stay far below; a listing line is ~100 bytes.
MAX_FILES = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The SHA-256 of a file or of a directory's listing; `str()` gives `KIND:HEX`."""

    kind: Kind
    hex: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.hex}"

    @staticmethod
    def parse(text: str) -> "Digest":
        """Read `sha256:HEX` or `dirHash:HEX`; anything else is an EvidenceError."""
        kind, colon, value = text.partition(":")
        if not colon or kind not in ("sha256", "dirHash") or not is_hex(value):
            raise EvidenceError(f"not a digest: {text[:80]!r}")
        return Digest(cast(Kind, kind), value)


@dataclass(frozen=True, slots=True)
class FileFact:
    """What a reader measured of one file: `size` in bytes, `sha256` as 64 hex."""

    size: int
    sha256: str


def is_hex(text: str, length: int = 64) -> bool:
    """Whether `text` is exactly `length` lowercase hexadecimal digits."""
    return len(text) == length and HEX.issuperset(text)


def of_bytes(data: bytes) -> Digest:
    """The `sha256:` digest of `data`."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def check_path(path: str) -> None:
    """Refuse a path that another system, a reader or a shell could take for a different one."""
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError:
        raise EvidenceError(f"path is not valid UTF-8: {path!a}") from None
    if not raw or len(raw) > MAX_PATH_BYTES:
        raise EvidenceError(f"path is empty or longer than {MAX_PATH_BYTES} bytes: {path[:80]!a}")
    if raw.isascii() and path.isprintable():
        plain = True
    else:
        # Cc, Cf (bidi overrides, zero width), Cs, Co, Cn, Zl, Zp are invisible or ambiguous.
        plain = all(unicodedata.category(c) not in _UNSAFE_CATEGORIES for c in path)
        plain = plain and unicodedata.normalize("NFC", path) == path
    if not plain or "\\" in path:
        raise EvidenceError(
            f"path has a control character, a backslash or is not in Unicode NFC: {path!a}"
        )
    rooted = f"/{path}/"
    if "//" in rooted or "/./" in rooted or "/../" in rooted:
        raise EvidenceError(f"path is not a plain relative path: {path!a}")
    if len(raw) > MAX_NAME_BYTES and any(len(part) > MAX_NAME_BYTES for part in raw.split(b"/")):
        raise EvidenceError(f"a name in the path is longer than {MAX_NAME_BYTES} bytes: {path!a}")


_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def check_paths(paths: Iterable[str]) -> None:
    """`check_path` for each; refuse twins (equal but for case) and files used as folders."""
    folded: dict[str, str] = {}
    folders: dict[str, str] = {}
    seen: set[str] = set()
    for path in paths:
        check_path(path)
        key = fold(path)
        if key in folded:
            raise EvidenceError(f"two paths differ only in case or form: {folded[key]!a}, {path!a}")
        folded[key] = path
        folder = path.rpartition("/")[0]
        # A folder seen before had its own parents checked then.
        while folder and folder not in seen:
            seen.add(folder)
            twin = folders.setdefault(fold(folder), folder)
            if twin != folder:
                raise EvidenceError(f"two directories differ only in case: {twin!a}, {folder!a}")
            folder = folder.rpartition("/")[0]
    if len(folded) > MAX_FILES:
        raise EvidenceError(f"more than {MAX_FILES} files")
    for key, path in folders.items():
        if key in folded:
            raise EvidenceError(f"a path is both a file and a directory: {path!a}")


def fold(path: str) -> str:
    """The form under which a case-insensitive or normalising file system would merge two paths."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())


def listing(files: Mapping[str, FileFact] | Mapping[str, str]) -> bytes:
    """What `sha256sum` prints for these files, sorted by path bytes: `HEX  PATH` lines.

    `files` maps a path to its FileFact or to its 64 hex digits.
    """
    check_paths(files)
    lines = []
    for path in sorted(files, key=lambda p: p.encode()):
        fact = files[path]
        lines.append(f"{fact if isinstance(fact, str) else fact.sha256}  {path}\n")
    return "".join(lines).encode()


def parse_listing(data: bytes) -> dict[str, str]:
    """Read a listing back to `{path: hex}`; only the form that `listing` gives is accepted."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise EvidenceError("listing is not UTF-8") from None
    files: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        value, path = line[:64], line[66:]
        if not is_hex(value) or line[64:66] != "  " or not path or path in files:
            raise EvidenceError(f"line {number} of the listing is not `HEX  PATH`, or is repeated")
        files[path] = value
    if listing(files) != data:
        raise EvidenceError("listing is not canonical (sorted by path, LF at every line's end)")
    return files


def dir_digest(files: Mapping[str, FileFact] | Mapping[str, str]) -> Digest:
    """The `dirHash:` digest of a tree of files."""
    return Digest("dirHash", hashlib.sha256(listing(files)).hexdigest())


EMPTY_DIR = Digest("dirHash", hashlib.sha256(b"").hexdigest())
EMPTY_FILE_HEX = hashlib.sha256(b"").hexdigest()
