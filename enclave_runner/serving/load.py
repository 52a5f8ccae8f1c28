"""Decrypt a bundle into memory, and check that it is the model that the certificate names.

The bundle comes from the untrusted host. Nothing is served unless its header belongs to the lease,
its chunks are in order and each file equals the certified one byte for byte (`bundle.*`,
`terms.digest`). Files go to an empty folder in a memory file system that the caller chooses.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aicert.errors import ConfigError, LockError, ToolError
from aicert.files.bounded import read_bounded
from aicert.files.tree import open_file
from aicert.formats import certificate as certificates
from aicert.formats.digest import FileFact
from aicert.frozen import dataclass
from aicert.lease import bundle, keys
from aicert.lease import terms as lease_terms
from aicert.lease.bundle import ContentKey, Header, PackedFile
from aicert.lease.checks import RefusedError
from aicert.lease.terms import Terms
from enclave_runner.inputs import model_files, model_json
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

# A P-256 SPKI has 91 bytes.
_MAX_SPKI: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A consistent bundle that is not decrypted yet.

    The content key depends on `header_bytes`; `terms_bytes` are measured.
    """

    folder: Path
    terms: Terms
    terms_bytes: bytes
    header: Header
    header_bytes: bytes
    custodian: "EllipticCurvePublicKey"


def read_bundle(folder: Path) -> Offered:
    """Read the bundle at `folder`.

    Raises RefusedError if header, terms, certificate and key disagree.
    """
    terms_bytes = read_bounded(folder / bundle.TERMS, lease_terms.MAX_BYTES, "terms")
    header_bytes = read_bounded(folder / bundle.HEADER, bundle.MAX_HEADER, "header")
    certificate = certificates.parse(
        read_bounded(folder / bundle.CERTIFICATE, certificates.MAX_BYTES, "certificate")
    )
    custodian = keys.load_public(
        read_bounded(folder / bundle.CUSTODIAN, _MAX_SPKI, "custodian's key")
    )
    terms, header = lease_terms.parse(terms_bytes), bundle.parse(header_bytes)
    bundle.check_terms(header, terms)
    bundle.check_certificate(header, terms, certificate)
    if keys.spki_digest(custodian) != terms.custodian:
        raise RefusedError("terms.digest", "the custodian's key is not the one in the terms")
    return Offered(
        folder=folder,
        terms=terms,
        terms_bytes=terms_bytes,
        header=header,
        header_bytes=header_bytes,
        custodian=custodian,
    )


def _nothing() -> None:
    """Do nothing: the default check before each chunk, which lets decryption go on."""


def decrypt(
    offered: Offered, key: ContentKey, target: Path, check: Callable[[], None] = _nothing
) -> None:
    """Decrypt every file into `target`, which must be empty.

    `check` is called before each chunk. If it raises, or if the bundle is refused, no file of the
    bundle stays there.
    """
    if any(target.iterdir()):
        raise ToolError(f"{os.fspath(target)!a} is not empty")
    written: list[Path] = []
    try:
        for number, file in enumerate(offered.header.files):
            path = target / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
            decrypt_file(offered.folder / bundle.DATA, key, number, file, path, check)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def decrypt_file(
    folder: Path,
    key: ContentKey,
    number: int,
    file: PackedFile,
    path: Path,
    check: Callable[[], None] = _nothing,
) -> None:
    """Decrypt file `number` of the header from `folder`, and write it to `path`."""
    with open(open_file(folder, str(number)), "rb", buffering=0) as sealed, path.open("xb") as out:
        # The size is set first, so that a memory file system with huge pages uses them: small ones
        # take half of the time. The header's size is believed only as far as there is data.
        out.truncate(min(file.size, os.fstat(sealed.fileno()).st_size))
        bundle.decrypt_file(key, number, file, _checked(check, sealed, file), out.write)


def _checked(check: Callable[[], None], sealed: FileIO, file: PackedFile) -> Iterator[memoryview]:
    for chunk in _chunks(sealed, file):
        check()
        yield chunk


def _chunks(sealed: FileIO, file: PackedFile) -> Iterator[memoryview]:
    """Yield the chunks of `data/N`, and one more byte if anything follows them.

    All are read into the same buffer: fresh memory for each would cost as much as decrypting it.
    """
    room = memoryview(bytearray(min(file.size, bundle.CHUNK) + bundle.TAG))
    for place in range(file.chunks):
        size = min(bundle.CHUNK, file.size - place * bundle.CHUNK) + bundle.TAG
        count = _read(sealed, room[:size])
        if not count:
            return
        yield room[:count]
    if sealed.readinto(room[:1]):
        yield room[:1]


def _read(sealed: FileIO, into: memoryview) -> int:
    """Fill a buffer, and return how many bytes were read: fewer than its size only at the end."""
    count = 0
    while count < len(into):
        read = sealed.readinto(into[count:])
        if not read:
            break
        count += read
    return count


def require_memory(target: Path) -> None:
    """Raise ToolError unless `target` is in memory: weights must never reach a disk."""
    kind = _file_system(target)
    if kind not in ("tmpfs", "ramfs"):
        raise ToolError(f"{os.fspath(target)!a} is on a {kind} file system, not in memory")


def _file_system(target: Path) -> str:
    """Return the type of the mount that holds `target`, which has the longest matching point."""
    real = os.path.realpath(target)
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, name, *_ = line.split(" ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # If two mounts share a mount point, the later one is on top.
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


def inert(
    offered: Offered, root: Path, copies: Path, *, model_types: frozenset[str]
) -> Mapping[str, Path]:
    """Return the decrypted files below `root` that the engine may see, by name in the model.

    Names are on a closed list, JSON must not load code, and weights must not contain code. Cleaned
    copies are written to `copies`. Raises RefusedError (bundle.inert) if a file could run code. The
    rules are those for a training's base model; `model_types`: those built into the engine.
    """
    files = {file.path: FileFact(file.size, file.sha256) for file in offered.header.files}
    model = MeasuredInput(
        name=_MODEL, path=root, digest=offered.terms.model, files=files, stat_keys={}
    )
    reference = Reference(key=_MODEL, name=_MODEL, inside="", role="model")
    try:
        seen = model_files.prepare(
            [reference], [model], frozenset(), copies, model_types=model_types
        )
    except (LockError, ConfigError) as error:
        raise RefusedError("bundle.inert", error.message) from None
    return {place.removeprefix(f"{_MODEL}/"): path for place, path in seen.shown.items()}


def context_of(files: Mapping[str, Path]) -> int | None:
    """Return how many tokens a model reads at most, as its `config.json` says in the one key that
    most architectures have; None if it says nothing there.
    """
    settings = json.loads(read_bounded(files[_CONFIG], model_json.MAX_JSON, "the model's settings"))
    value = settings.get("max_position_embeddings")
    # bool is a subclass of int.
    return value if type(value) is int and value > 0 else None


_MODEL: Final = "model"
_CONFIG: Final = "config.json"
