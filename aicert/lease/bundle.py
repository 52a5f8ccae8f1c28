"""The bundle: a model's files, encrypted for whoever opens the lease, and a header that lists them.

    {"chunk":4194304,"files":[{"chunks":1,"path":"config.json","sha256":"…","size":612},…],
     "lease":"719013b3…","terms":"sha256:44c1…","version":1}

File N of the header, sorted by path, lies in `data/N` as chunks of AES-256-GCM, each with its tag.
Every file has a key of its own (HKDF-SHA256 of the content key); a chunk's nonce is a prefix, its
number and whether it is the last; the SHA-256 of the header is associated data. So a chunk that was
swapped, cut, flipped, repeated or taken from another file or bundle is refused (`bundle.chunks`),
and so is a file whose bytes are not those of the header (`bundle.files`).

The content key is HKDF-SHA256 of both halves, with the header's SHA-256 as salt, so a header that
differs gives another key. Left out: reading and writing files.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import certificate as certificates
from aicert.formats import statement as statements
from aicert.formats import strict_json
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, FileFact
from aicert.formats.listing import dir_digest
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease.blob import HALF_BYTES
from aicert.lease.checks import RefusedError, checking
from aicert.lease.terms import LEASE_DIGITS, Terms

# The names of a bundle's files; file N of the header is DATA/N.
HEADER: Final = "header.json"
TERMS: Final = "terms.toml"
CERTIFICATE: Final = "certificate.json"
CUSTODIAN: Final = "custodian.der"
DATA: Final = "data"

VERSION: Final = 1
CHUNK: Final = 4 << 20
TAG: Final = 16
MAX_HEADER: Final = 8 << 20
MAX_FILES: Final = 20_000
# A chunk's number has four octets in its nonce.
MAX_CHUNKS: Final = (1 << 32) - 1
_KEY_BYTES: Final = 32
_PREFIX_BYTES: Final = 7
_CONTENT_INFO: Final = b"aicert content key v1\0"
_FILE_INFO: Final = b"aicert file v1\0"
# The broker's half for a lease that needs no broker; docs/spec/lease.md says what that loses.
NO_BROKER: Final = bytes(HALF_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """One file of a bundle, before encryption."""

    path: str
    size: int
    sha256: str

    @property
    def chunks(self) -> int:
        """The number of chunks.

        An empty file has one, too: marked as the last one, it shows that nothing is missing.
        """
        return max(1, -(-self.size // CHUNK))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The files that a bundle holds, and the terms of its lease."""

    lease: str
    terms: Digest
    files: tuple[PackedFile, ...]

    @property
    def model(self) -> Digest:
        """The dirHash of the files."""
        return dir_digest({file.path: file.sha256 for file in self.files})


class ContentKey:
    """The key of a bundle. No error, log or representation shows it."""

    __slots__ = ("_key", "_salt")

    def __init__(self, tpm_half: bytes, broker_half: bytes, header: bytes) -> None:
        """Derive the key from both halves and from the header's bytes, to which it belongs."""
        if len(tpm_half) != HALF_BYTES or len(broker_half) != HALF_BYTES:
            raise EvidenceError(f"half of a content key has {HALF_BYTES} bytes")
        self._salt = hashlib.sha256(header).digest()
        self._key = _derived(tpm_half + broker_half, self._salt, _CONTENT_INFO, _KEY_BYTES)

    def __repr__(self) -> str:
        return "ContentKey()"

    def __reduce__(self) -> str:
        raise TypeError("a content key is not written anywhere")

    def file(self, number: int) -> "_FileCipher":
        """Return the cipher that encrypts and decrypts file `number` of the header."""
        info = _FILE_INFO + number.to_bytes(4)
        material = _derived(self._key, self._salt, info, _KEY_BYTES + _PREFIX_BYTES)
        return _FileCipher(material, self._salt)


class _FileCipher:
    __slots__ = ("_aead", "_associated", "_prefix")

    def __init__(self, material: bytes, associated: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(material[:_KEY_BYTES])
        self._prefix = material[_KEY_BYTES:]
        self._associated = associated

    def __repr__(self) -> str:
        return "FileCipher()"

    def _nonce(self, number: int, *, is_last: bool) -> bytes:
        return self._prefix + number.to_bytes(4) + bytes((is_last,))

    def encrypt(self, number: int, plain: bytes, *, is_last: bool) -> bytes:
        """Return chunk `number`, encrypted, with its tag."""
        return self._aead.encrypt(self._nonce(number, is_last=is_last), plain, self._associated)

    def decrypt(
        self, number: int, sealed: bytes | memoryview, into: memoryview, *, is_last: bool
    ) -> None:
        """Decrypt chunk `number` to `into`.

        Raises RefusedError unless exactly these bytes were encrypted for this place.
        """
        from cryptography.exceptions import InvalidTag

        nonce = self._nonce(number, is_last=is_last)
        try:
            self._aead.decrypt_into(nonce, sealed, self._associated, into)
        except InvalidTag:
            raise RefusedError(
                "bundle.chunks", f"chunk {number} was changed, or is out of place"
            ) from None


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def packed(files: Mapping[str, FileFact]) -> tuple[PackedFile, ...]:
    """Return the files of a header, in its order."""
    return tuple(
        PackedFile(path=path, size=files[path].size, sha256=files[path].sha256)
        for path in sorted(files, key=str.encode)
    )


def emit(header: Header) -> bytes:
    """Return the canonical bytes; EvidenceError for files that no bundle can hold."""
    _check(header)
    return strict_json.dumps(
        {
            "chunk": CHUNK,
            "files": [
                {"chunks": file.chunks, "path": file.path, "sha256": file.sha256, "size": file.size}
                for file in header.files
            ],
            "lease": header.lease,
            "terms": str(header.terms),
            "version": VERSION,
        }
    )


def parse(data: bytes) -> Header:
    """Read a header in its one form; RefusedError (`bundle.header`) for any other."""
    with checking("bundle.header"):
        header = _read(data)
        if emit(header) != data:
            raise EvidenceError("it is not in canonical form")
        return header


def _read(data: bytes) -> Header:
    fields = Fields(strict_json.loads(data, what="the header", max_bytes=MAX_HEADER), "the header")
    fields.const("version", VERSION)
    fields.const("chunk", CHUNK)
    header = Header(
        lease=fields.hex("lease", LEASE_DIGITS),
        terms=Digest.parse(fields.text("terms")),
        files=fields.items("files", _read_file, max_items=MAX_FILES),
    )
    fields.done()
    return header


def _read_file(value: object, where: str) -> PackedFile:
    fields = Fields(value, where)
    file = PackedFile(
        path=fields.text("path"), size=fields.integer("size"), sha256=fields.hex("sha256")
    )
    fields.const("chunks", file.chunks)
    fields.done()
    return file


def _check(header: Header) -> None:
    if not header.files:
        raise EvidenceError("the bundle has no files")
    if header.terms.kind != "sha256":
        raise EvidenceError("terms are a file")
    if any(file.chunks > MAX_CHUNKS for file in header.files):
        raise EvidenceError("a file is too large")
    names = [file.path for file in header.files]
    if names != sorted(set(names), key=str.encode):
        raise EvidenceError("files are not sorted by path, or one is repeated")
    # This also refuses a path that another system could take for a different one.
    dir_digest({file.path: file.sha256 for file in header.files})


def check_terms(header: Header, terms: Terms) -> None:
    """Raise RefusedError unless the bundle holds the model of these terms."""
    if (header.lease, header.terms) != (terms.lease, terms.digest):
        raise RefusedError(
            "terms.digest", "the bundle is for a different lease, or for different terms"
        )
    if header.model != terms.model:
        raise RefusedError(
            "bundle.files",
            f"the bundle holds a different model\nfound     {header.model}\n"
            f"expected  {terms.model}",
        )


def check_certificate(header: Header, terms: Terms, certificate: Certificate) -> None:
    """Raise RefusedError unless these files are an output of the terms' own certificate.

    Whether the certificate passes is judged by whoever asks the machine, under his own policy.
    """
    if certificates.core_digest(certificate) != terms.certificate:
        raise RefusedError("bundle.files", "the certificate is not the one in the terms")
    held = {file.path: file.sha256 for file in header.files}
    outputs = statements.parse(certificate.envelope.payload).outputs.values()
    if not any(held == dict(output.files) for output in outputs):
        raise RefusedError("bundle.files", "the files are not an output of the certificate")


def encrypted(key: ContentKey, number: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of `data/N` for a file whose content is `blocks`.

    Each block has CHUNK bytes, except the last. An empty file has no blocks, and one chunk.
    """
    cipher = key.file(number)
    waiting, place = b"", 0
    for block in blocks:
        if waiting:
            yield cipher.encrypt(place, waiting, is_last=False)
            place += 1
        waiting = block
    yield cipher.encrypt(place, waiting, is_last=True)


def decrypt_file(
    key: ContentKey,
    number: int,
    file: PackedFile,
    sealed: Iterable[bytes | memoryview],
    write: Callable[[memoryview], object],
) -> None:
    """Give the file's content to `write`, chunk by chunk.

    Raises RefusedError if a chunk, or the whole, is not what the header names; what was written
    before an error must be thrown away. `sealed`: the chunks of `data/N`, each with its tag. The
    memory that `write` is given changes afterwards: all chunks are decrypted into one place, since
    taking new memory for each costs half of the time.
    """
    cipher, hashed, count = key.file(number), hashlib.sha256(), 0
    room = memoryview(bytearray(min(file.size, CHUNK)))
    for chunk in sealed:
        if count == file.chunks:
            raise RefusedError("bundle.chunks", "there is more data than the header says")
        size = min(CHUNK, file.size - count * CHUNK)
        if len(chunk) != size + TAG:
            raise RefusedError("bundle.chunks", f"chunk {count} has the wrong size")
        plain = room[:size]
        cipher.decrypt(count, chunk, plain, is_last=count == file.chunks - 1)
        count += 1
        hashed.update(plain)
        write(plain)
    if count != file.chunks:
        raise RefusedError("bundle.chunks", "the last chunks are missing")
    if hashed.hexdigest() != file.sha256:
        raise RefusedError("bundle.files", f"{file.path[:200]!a} does not match the header")
