"""Pack a certified model into a bundle: encrypt its files, and write the terms beside them.

Only files of the certified output are packed, and each is hashed while it is encrypted: if a file
is not the certified one, or changes meanwhile, packing ends and leaves nothing behind. Whether the
certificate passes is for the caller to decide first.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.bounded import why
from aicert.files.tree import open_file, read_some
from aicert.formats import certificate as certificates
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate
from aicert.formats.listing import dir_digest
from aicert.formats.statement import Output
from aicert.frozen import dataclass
from aicert.lease import bundle, custody, keys, terms
from aicert.lease.bundle import ContentKey, Header, PackedFile
from aicert.lease.custody import Secrets
from aicert.lease.terms import Terms
from aicert.leasing import hardware_keys
from aicert.leasing.hardware_keys import HeldKey

KEYS: Final = ".keys"

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the custodian decides about a lease; the other terms follow from the model."""

    tick_tokens: int
    routes: tuple[str, ...]
    max_output_tokens: int
    heartbeat_seconds: int
    egress_bytes_per_token: int
    is_offline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A bundle that was written: its terms and its header."""

    terms: Terms
    header: Header


def keys_path(folder: Path) -> Path:
    """Return the path of the custodian's keys for the bundle at `folder`: beside it."""
    return folder.parent / (folder.name + KEYS)


def pack(
    certificate: Certificate,
    model: Path,
    folder: Path,
    allowed: Allowed,
    on_bytes: OnBytes,
    *,
    key: HeldKey | None = None,
) -> Packed:
    """Write the bundle to `folder`, which must not exist, and its keys beside it.

    `key`: a key in a token or TPM; if None, a new one is made.
    """
    output = _output(certificate, model)
    is_offline = allowed.is_offline
    kept = (
        custody.drawn(offline=is_offline)
        if key is None
        else hardware_keys.drawn(key, offline=is_offline)
    )
    agreed = terms.identified(_terms(certificate, output, allowed, kept))
    header = Header(lease=kept.lease, terms=agreed.digest, files=_files(model, output))
    with _new(folder):
        _write_keys(keys_path(folder), hardware_keys.emit(kept))
        data = bundle.emit(header)
        for name, content in (
            (bundle.HEADER, data),
            (bundle.TERMS, terms.emit(agreed)),
            (bundle.CERTIFICATE, certificates.emit(certificate)),
            (bundle.CUSTODIAN, keys.spki_of(kept.key.public_key())),
        ):
            (folder / name).write_bytes(content)
        (folder / bundle.DATA).mkdir()
        content_key = ContentKey(kept.tpm_half, kept.broker_half, data)
        for number, file in enumerate(header.files):
            blocks = _blocks(model, file, on_bytes)
            with (folder / bundle.DATA / str(number)).open("xb") as stream:
                for chunk in bundle.encrypted(content_key, number, blocks):
                    stream.write(chunk)
    return Packed(terms=agreed, header=header)


def _output(certificate: Certificate, model: Path) -> Output:
    """Return the certified output that is at `model`."""
    outputs = statements.parse(certificate.envelope.payload).outputs.values()
    there = [one for one in outputs if all((model / path).exists() for path in one.files)]
    if len(there) > 1:
        # Several outputs may have the same names; then their bytes decide.
        there = [one for one in there if dir_digest(read_some(model, one.files)) == one.digest]
    if not there:
        raise EvidenceError(
            "the model directory does not hold an output of the certificate",
            hint="aicert show CERTIFICATE    # names the outputs; here MODEL_DIR is one of them",
        )
    return there[0]


def _terms(certificate: Certificate, output: Output, allowed: Allowed, kept: Secrets) -> Terms:
    return Terms(
        digest=output.digest,  # a placeholder: `terms.identified` puts its own digest here
        lease=kept.lease,
        model=output.digest,
        certificate=certificates.core_digest(certificate),
        tick_tokens=allowed.tick_tokens,
        routes=allowed.routes,
        max_output_tokens=allowed.max_output_tokens,
        heartbeat_seconds=allowed.heartbeat_seconds,
        egress_bytes_per_token=allowed.egress_bytes_per_token,
        key=terms.TPM_ALONE if allowed.is_offline else terms.SPLIT,
        custodian=keys.spki_digest(kept.key.public_key()),
    )


def _files(model: Path, output: Output) -> tuple[PackedFile, ...]:
    files = []
    for path in sorted(output.files, key=str.encode):
        descriptor = open_file(model, path)
        try:
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        files.append(PackedFile(path=path, size=size, sha256=output.files[path]))
    return tuple(files)


def _blocks(model: Path, file: PackedFile, on_bytes: OnBytes) -> Iterator[bytes]:
    """Yield the file's content in chunks; EvidenceError at its end if it is not the
    certified file.
    """
    hashed, left = hashlib.sha256(), file.size
    with open(open_file(model, file.path), "rb") as stream:
        while left:
            block = stream.read(min(left, bundle.CHUNK))
            if not block:
                break
            left -= len(block)
            hashed.update(block)
            on_bytes(len(block))
            yield block
    if left or hashed.hexdigest() != file.sha256:
        raise EvidenceError(
            f"{file.path[:200]!a} changed while it was packed",
            hint="aicert verify CERTIFICATE MODEL_DIR    # does the model still match?",
        )


@contextlib.contextmanager
def _new(folder: Path) -> Iterator[None]:
    """Make a new directory, which is removed if the work in it fails."""
    kept = keys_path(folder)
    for path in (folder, kept):
        if os.path.lexists(path):
            raise ConfigError(f"{os.fspath(path)!a} already exists", hint="name a new directory")
    try:
        folder.mkdir(parents=True)
        try:
            yield
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            kept.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ToolError(f"cannot write {os.fspath(folder)!a}: {why(error)}") from None


def _write_keys(path: Path, data: bytes) -> None:
    # Nobody else may read the file, not even for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(data)
