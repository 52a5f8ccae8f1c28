import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats.digest import FileFact
from aicert.formats.listing import dir_digest
from aicert.frozen import replace
from aicert.lease import bundle
from aicert.lease.bundle import ContentKey, Header, PackedFile
from aicert.lease.checks import RefusedError
from aicert.lease.terms import Terms
from tests.vectors.leases import LEASE, agreed

SMALL = 16
FILES = {"config.json": b"{}", "empty": b"", "sub/weights.bin": bytes(range(100)),
         "whole": b"w" * 2 * SMALL}  # fmt: skip
HALVES = (b"\x01" * 32, b"\x02" * 32)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use chunks of 16 bytes: what holds for many chunks does not depend on their size."""
    monkeypatch.setattr(bundle, "CHUNK", SMALL)


def facts(files: dict[str, bytes] = FILES) -> dict[str, FileFact]:
    return {
        path: FileFact(len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()
    }


def terms() -> Terms:
    return agreed(model=dir_digest(facts()))


def header(**changes: Any) -> Header:
    given: dict[str, Any] = {
        "lease": LEASE, "terms": terms().digest, "files": bundle.packed(facts()),
    }  # fmt: skip
    return Header(**given | changes)


def key(of: bytes | None = None) -> ContentKey:
    return ContentKey(*HALVES, bundle.emit(header()) if of is None else of)


def sealed(number: int, data: bytes, by: ContentKey | None = None) -> list[bytes]:
    blocks = [data[at : at + SMALL] for at in range(0, len(data), SMALL)]
    return list(bundle.encrypted(by or key(), number, blocks))


def opened(number: int, chunks: list[bytes], by: ContentKey | None = None) -> bytes:
    plain = bytearray()
    bundle.decrypt_file(by or key(), number, header().files[number], chunks, plain.extend)
    return bytes(plain)


@pytest.mark.usefixtures("small")
def test_what_is_encrypted_is_decrypted() -> None:
    for number, path in enumerate(sorted(FILES)):
        chunks = sealed(number, FILES[path])
        assert len(chunks) == header().files[number].chunks
        assert opened(number, chunks) == FILES[path]


@pytest.mark.usefixtures("small")
def test_a_chunk_is_what_the_page_says() -> None:
    """Compute a chunk again from docs/spec/lease.md."""
    salt = hashlib.sha256(bundle.emit(header())).digest()

    def derived(secret: bytes, info: bytes, length: int) -> bytes:
        return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)

    content = derived(b"".join(HALVES), b"aicert content key v1\0", 32)
    material = derived(content, b"aicert file v1\0" + bytes((0, 0, 0, 3)), 39)
    nonce = material[32:] + bytes((0, 0, 0, 1)) + b"\1"
    plain = AESGCM(material[:32]).decrypt(nonce, sealed(3, FILES["whole"])[1], salt)
    assert plain == b"w" * SMALL


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "change",
    [
        lambda chunks: chunks[::-1],
        lambda chunks: chunks[:-1],
        lambda chunks: [],
        lambda chunks: [*chunks, chunks[-1]],
        lambda chunks: [chunks[0], *chunks[:-1]],
        lambda chunks: [chunks[0][:-1], *chunks[1:]],
        lambda chunks: [bytes((chunks[0][0] ^ 1,)) + chunks[0][1:], *chunks[1:]],
        lambda chunks: [b"", *chunks[1:]],
        lambda chunks: sealed(3, FILES["sub/weights.bin"]),
        lambda chunks: sealed(2, FILES["sub/weights.bin"], key(b"another header")),
        lambda chunks: sealed(2, FILES["sub/weights.bin"], ContentKey(*HALVES[::-1], b"")),
    ],
)
def test_bundle_chunks_that_are_not_in_their_place(
    change: Callable[[list[bytes]], list[bytes]],
) -> None:
    """Chunks are swapped, cut, missing, repeated, shortened, flipped, or of another file or key."""
    with pytest.raises(RefusedError, match=r"^bundle\.chunks: "):
        opened(2, change(sealed(2, FILES["sub/weights.bin"])))


@pytest.mark.usefixtures("small")
@given(st.data())
def test_bundle_chunks_no_byte_can_be_changed(data: st.DataObject) -> None:
    chunks = sealed(2, FILES["sub/weights.bin"])
    place = data.draw(st.integers(0, len(chunks) - 1))
    at = data.draw(st.integers(0, len(chunks[place]) - 1))
    flipped = bytearray(chunks[place])
    flipped[at] ^= data.draw(st.integers(1, 255))
    chunks[place] = bytes(flipped)
    with pytest.raises(RefusedError, match=r"^bundle\.chunks: "):
        opened(2, chunks)


@pytest.mark.usefixtures("small")
def test_bundle_files_that_are_not_those_of_the_header() -> None:
    """A custodian encrypts other bytes than the header names."""
    other = bytes(reversed(FILES["sub/weights.bin"]))
    with pytest.raises(RefusedError, match=r"^bundle\.files: 'sub/weights\.bin' does not match"):
        opened(2, sealed(2, other))


def test_bundle_files_are_those_of_the_terms() -> None:
    bundle.check_terms(header(), terms())
    with pytest.raises(RefusedError, match=r"^bundle\.files: the bundle holds a different model"):
        bundle.check_terms(header(), replace(agreed(), digest=terms().digest))
    for changed in (replace(terms(), lease="0" * 32), agreed()):
        with pytest.raises(RefusedError, match=r"^terms\.digest: "):
            bundle.check_terms(header(), changed)


def test_a_header_is_read_back() -> None:
    data = bundle.emit(header())
    assert bundle.parse(data) == header()
    assert header().model == terms().model


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"version":1', b'"version":2', "version is not 1"),
        (b'"chunk":4194304', b'"chunk":16', "chunk is not 4194304"),
        (b'"chunks":1', b'"chunks":2', "chunks is not 1"),
        (b'"lease":', b'"note":1,"lease":', "unknown key 'note'"),
        (b'{"chunks":1', b'{"note":1,"chunks":1', "unknown key 'note'"),
        (b'"lease":', b'"lease": ', "not in canonical form"),
        (b"sub/weights.bin", b"sub/../weights.bin", "not a plain relative path"),
        (b"sub/weights.bin", b"empty", "not sorted by path, or one is repeated"),
        (b"sub/weights.bin", b"a", "not sorted by path"),
        (b"config.json", b"EMPTY", "differ only in case"),
        (b'"terms":"sha256', b'"terms":"dirHash', "terms are a file"),
        (b'"size":100', b'"size":-1', "out of range"),
        (b"{", b"", "is not JSON"),
    ],
)
def test_bundle_header_has_one_form(old: bytes, new: bytes, message: str) -> None:
    data = bundle.emit(header())
    assert old in data
    with pytest.raises(RefusedError, match=rf"(?s)^bundle\.header: .*{message}"):
        bundle.parse(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "has no files"),
        ((PackedFile(path="a", size=1 << 55, sha256="0" * 64),), "a file is too large"),
    ],
)
def test_what_no_bundle_holds(files: tuple[PackedFile, ...], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        bundle.emit(header(files=files))


def test_a_content_key_says_nothing_of_itself() -> None:
    content_key = key()
    assert repr(content_key) == "ContentKey()"
    assert repr(content_key.file(0)) == "FileCipher()"
    with pytest.raises(TypeError, match="not written anywhere"):
        pickle.dumps(content_key)
    with pytest.raises(EvidenceError, match="has 32 bytes"):
        ContentKey(b"", bytes(32), b"")
