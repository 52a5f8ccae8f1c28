from dataclasses import replace

import pytest

from aicert.errors import LockError
from aicert.formats.digest import Digest, of_bytes
from aicert.lease import terms
from tests.vectors.leases import agreed

TEXT = terms.emit(agreed())


def test_round_trip_and_identity() -> None:
    read = terms.parse(TEXT)
    assert read == agreed()
    assert read.digest == of_bytes(TEXT)
    assert terms.emit(read) == TEXT


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"version = 1", b"version = 2", "version: expected 1"),
        (b"version = 1", b"version = true", "version: expected an integer"),
        (b"version = 1\n", b"", "version: expected an integer"),
        (b"version = 1", b"version = 1 # one", "not in canonical form"),
        (b"version = 1", b"version = [", "not in canonical form"),
        (b"version = 1", b"version = " + b"[" * 3000, "not in canonical form"),
        (b"version = 1", "version = ä".encode(), "not in canonical form"),
        (b"version = 1", b"version = 1" + b"0" * 3200, "are larger than|version: expected 1"),
        (b"tick-tokens", b"note = 1\ntick-tokens", "unknown key 'note'"),
        (b'lease = "7', b'lease = "G', "lease is not 32 hexadecimal digits"),
        (b"dirHash:", b"sha256:", "a model is a directory"),
        (b'certificate = "sha256:', b'certificate = "dirHash:', "its certificate a file"),
        (b"dirHash:", b"md5:", "not a digest"),
        (b"spki-sha256:", b"sha256:", "custodian: expected spki-sha256"),
        (b'key = "split"', b'key = "none"', "key is not split or tpm"),
        (b', "/v1/models"', b', "/load_model"', "routes are not some of"),
        (b"/v1/chat/completions", b"/v1/models", "routes are not some of"),
        (b'"/v1/chat/completions", ', b"", None),
        (b'routes = ["/v1/chat/completions", "/v1/completions", "/v1/models"]',
         b"routes = []", "routes are not some of"),
        (b"tick-tokens = 1000", b"tick-tokens = 0", "tick-tokens is not from 1 to 1048576"),
        (b"heartbeat-seconds = 60", b"heartbeat-seconds = 3601", "heartbeat-seconds is not from"),
    ],
)  # fmt: skip
def test_anything_but_sound_terms_in_their_one_form_is_refused(
    old: bytes, new: bytes, message: str | None
) -> None:
    assert old in TEXT
    changed = TEXT.replace(old, new, 1)
    if message is None:
        assert terms.parse(changed).routes == terms.ROUTES[1:]
        return
    with pytest.raises(LockError, match=message):
        terms.parse(changed)


def test_terms_are_short() -> None:
    with pytest.raises(LockError, match="larger than 4096 bytes"):
        terms.parse(TEXT + b"\n" * terms.MAX_BYTES)


def test_what_terms_cannot_say_is_not_written() -> None:
    with pytest.raises(LockError, match="custodian is not 64 hexadecimal digits"):
        terms.emit(replace(agreed(), custodian='"\n'))
    with pytest.raises(LockError, match="a model is a directory"):
        terms.identified(replace(agreed(), model=Digest("sha256", "00" * 32)))
