r"""The lock of a machine image: what it is built from, and what a machine that boots it measures.

    version = 2
    name = "aicert-machine"
    digest = "sha256:…"                      # the whole disk image
    snapshot = "20261127T202000Z"            # when these were the newest packages of the mirrors

    [pcrs]
    pcr4 = "…"                               # 64 hex each, SHA-256 bank
    pcr11 = "…"
    pcr12 = "…"
    pcr13 = "…"

    [[verity]]
    name = "root"                            # dm-verity root hashes, by partition, sorted
    digest = "sha256:…"

    [[package]]
    part = "machine"                         # what it is for: machine, tools, training, …
    name = "libc6"                           # every package that was used, sorted by part and name
    version = "2.36-9+deb12u9"
    digest = "sha256:…"

Output rules, as for the run's lockfile: LF, printable ASCII, no `"` or `\` in values, a fixed order
of keys, and `parse` accepts exactly what `emit` writes. A lock's identity is the SHA-256 of its
bytes. Version 1 has no `snapshot`. PCRs 12 and 13 are zero unless the image measures something
there (systemd-stub: command line addons and system extensions, of which our machines have none).
"""

import re
from typing import Final

from aicert.errors import EvidenceError, LockError
from aicert.formats.canonical_toml import read
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.fields import Table
from aicert.frozen import dataclass

# Version 2 adds the time at which a snapshot archive had all of the packages.
VERSIONS: Final = (1, 2)
PCRS: Final = (4, 11, 12, 13)
# Some 500 packages of 150 bytes; the certificate's own limit on a carried lock is the same.
MAX_BYTES: Final = 1 << 20
MAX_PACKAGES: Final = 5000
# An image has two file systems at most.
MAX_VERITY: Final = 16
WHAT: Final = "image lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,127}")
_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_VALUE = re.compile(r"[!#-\[\]-~]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package or wheel, and the part of the image that it is for."""

    part: str
    name: str
    version: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLock:
    """A parsed lock. `digest`: the identity of the lock; `disk`: the digest of the disk image."""

    digest: Digest
    name: str
    disk: Digest
    pcrs: dict[int, bytes]
    verity: dict[str, Digest]
    packages: tuple[Package, ...]
    snapshot: str | None = None


def emit(
    *,
    name: str,
    disk: Digest,
    pcrs: dict[int, bytes],
    verity: dict[str, Digest],
    packages: tuple[Package, ...] = (),
    snapshot: str | None = None,
) -> bytes:
    """Return the canonical bytes of a lock; LockError for what it cannot hold."""
    _check(name, pcrs, verity, packages)
    version = VERSIONS[0] if snapshot is None else VERSIONS[1]
    lines = [f"version = {version}", f'name = "{name}"', f'digest = "{disk}"']
    if snapshot is not None:
        if not _TIME.fullmatch(snapshot):
            raise LockError(f"image lock: snapshot: {snapshot[:80]!a} is not a time")
        lines.append(f'snapshot = "{snapshot}"')
    lines += ["", "[pcrs]"]
    lines += [f'pcr{index} = "{pcrs[index].hex()}"' for index in PCRS]
    for part in sorted(verity):
        lines += ["", "[[verity]]", f'name = "{part}"', f'digest = "{verity[part]}"']
    for package in packages:
        lines += ["", "[[package]]", f'part = "{package.part}"', f'name = "{package.name}"']
        lines += [f'version = "{package.version}"', f'digest = "{package.digest}"']
    return ("\n".join(lines) + "\n").encode("ascii")


def parse(data: bytes) -> ImageLock:
    """Read a lock; LockError unless `data` is exactly the canonical form."""
    if len(data) > MAX_BYTES:
        raise LockError(f"image lock is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise LockError("image lock is not ASCII") from None
    document = read(text, "image lock", "./doit image")
    try:
        lock = _read(document, of_bytes(data))
    except EvidenceError as error:
        raise LockError(f"image lock: {error.message}") from None
    written = emit(
        name=lock.name,
        disk=lock.disk,
        pcrs=lock.pcrs,
        verity=lock.verity,
        packages=lock.packages,
        snapshot=lock.snapshot,
    )
    # This also refuses unknown keys, another order and other spellings of the same value.
    if written != data:
        raise LockError("image lock is not in canonical form", hint="./doit image")
    return lock


class _Table(Table):
    __slots__ = ()
    between = ": "


def _read(document: dict[str, object], digest: Digest) -> ImageLock:
    version = document.get("version")
    if type(version) is not int or version not in VERSIONS:
        raise LockError(f"image lock version is not {' or '.join(map(str, VERSIONS))}")
    table = _Table(document, WHAT)
    pcrs = _Table(table.take("pcrs", dict), WHAT)
    return ImageLock(
        digest=digest,
        name=table.text("name"),
        disk=Digest.parse(table.text("digest")),
        pcrs={index: bytes.fromhex(pcrs.hex(f"pcr{index}")) for index in PCRS},
        verity={
            part.text("name"): Digest.parse(part.text("digest"))
            for part in _tables(table, "verity", MAX_VERITY)
        },
        packages=tuple(
            Package(
                part=package.text("part"),
                name=package.text("name"),
                version=package.text("version"),
                digest=Digest.parse(package.text("digest")),
            )
            for package in _tables(table, "package", MAX_PACKAGES)
        ),
        snapshot=table.text("snapshot") if version == VERSIONS[1] else None,
    )


def _check(
    name: str, pcrs: dict[int, bytes], verity: dict[str, Digest], packages: tuple[Package, ...]
) -> None:
    named = (text for package in packages for text in (package.part, package.name))
    for text in (name, *verity, *named):
        if not _NAME.fullmatch(text):
            raise LockError(f"image lock: {text[:80]!a} is not a name")
    for package in packages:
        if not _VALUE.fullmatch(package.version):
            raise LockError(f"image lock: {package.name}: not a version")
    order = [(package.part, package.name, package.version) for package in packages]
    if order != sorted(set(order)):
        raise LockError("image lock: packages are not sorted, or one is repeated")
    if tuple(sorted(pcrs)) != PCRS or any(len(value) != 32 for value in pcrs.values()):
        raise LockError("image lock: expected PCRs 4, 11, 12 and 13, 32 bytes each")


def _tables(table: Table, key: str, limit: int) -> list[_Table]:
    values = table.tables(key, limit, f"expected at most {limit} tables")
    if not all(isinstance(value, dict) for value in values):
        raise table.wrong(key, "expected tables, not strings")
    return [_Table(value, WHAT) for value in values]
