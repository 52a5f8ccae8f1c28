"""Keys that cannot sign licences, wherever they are stored."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.cli.lease import keys
from aicert.errors import ConfigError
from aicert.leasing.hardware_keys import MAX_PLACE
from aicert.signing.keys import key_signer


def named(place: str, curve: ec.EllipticCurve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a key of this curve at `place`."""
    signer = key_signer(ec.generate_private_key(curve))
    monkeypatch.setattr(keys, "signer", lambda *_: signer)
    keys.held_key(place, None)


def test_a_key_on_another_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    named("tpm:0x81010002", ec.SECP256R1(), monkeypatch)
    with pytest.raises(ConfigError, match="a lease key must be a P-256 key"):
        named("tpm:0x81010002", ec.SECP384R1(), monkeypatch)


def test_a_place_that_no_file_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=f"at most {MAX_PLACE} characters"):
        named("pkcs11:" + "x" * MAX_PLACE, ec.SECP256R1(), monkeypatch)
