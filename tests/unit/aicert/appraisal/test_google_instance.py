"""Google's description of a machine, in the AK's certificate: it is shown and decides nothing."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from aicert.appraisal.evidence.google_instance import MAX_BYTES, OID, instance_text
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import ec_key, rsa_key
from tests.adversarial.forger import Scene


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 + len(octets))) + octets + content


def integer(number: int) -> bytes:
    return der(2, number.to_bytes(number.bit_length() // 8 + 1))


ZONE, PROJECT, NAME = (der(12, text) for text in (b"us-west1-b", b"a-project", b"a-machine"))
# The extension's facts about security follow; the verifier does not read them.
SECURITY = der(0xA0, der(0x30, der(0xA0, integer(1))))
WHOLE = ZONE + integer(123) + PROJECT + integer(2**63 + 5) + NAME + SECURITY


def extension(value: bytes) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(OID), value), False


def described(value: bytes) -> str:
    certificate = ca_forge.issue(
        "vm", rsa_key("ak"), issuer="CA", issuer_key=ec_key("ca"), extra=(extension(value),)
    )
    return instance_text(x509.load_der_x509_certificate(certificate))


def test_the_instance_is_named() -> None:
    assert described(der(0x30, WHOLE)) == (
        "instance a-machine (9223372036854775813) of project a-project (123), zone us-west1-b"
    )
    long = der(12, b"n" * 200)
    assert f"instance {'n' * 200} (7)" in described(
        der(0x30, ZONE + integer(1) + PROJECT + integer(7) + long)
    )
    assert " (?) of project" in described(
        der(0x30, ZONE + integer(1) + PROJECT + integer(1 << 80) + NAME)
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "cut short"),
        (b"\x30", "cut short"),
        (b"\x30\x80", "cut short"),
        (b"\x30\x83\0\0\1\0", "cut short"),
        (b"\x30\x05\x0c", "cut short"),
        (der(0x31, WHOLE), "not one DER SEQUENCE"),
        (der(0x30, WHOLE) + b"\0", "not one DER SEQUENCE"),
        (der(0x30, ZONE + PROJECT), "has unknown fields"),
        (der(0x30, ZONE + integer(1)), "cut short"),
        (der(0x30, der(12, b"\xff") + WHOLE[len(ZONE) :]), "not UTF-8"),
        (der(0x30, WHOLE + bytes(MAX_BYTES)), "more than 1024 bytes"),
    ],
)
def test_what_it_is_not_is_said(value: bytes, why: str) -> None:
    text = described(value)
    assert text.startswith("of an instance that cannot be named: its description ")
    assert why in text


@given(st.binary(max_size=200))
def test_nothing_there_is_an_error(value: bytes) -> None:
    assert "instance" in described(value)


def shown(**changes: Any) -> str:
    scene = Scene("cloud")

    def instance(policy: Any) -> Any:
        return replace(policy, roots=(replace(policy.roots[0], instance=True),))

    scene.edit("policy", instance)
    scene.edit("ak_options", lambda options: options | changes)
    result = scene.appraise()
    assert result.verdict == "passed"
    return result.check("platform.chain").detail


def test_it_is_shown_with_the_chain_of_a_root_that_says_so() -> None:
    assert shown(extra=(extension(der(0x30, WHOLE)),)).endswith(
        "root cloud platform CA, instance a-machine (9223372036854775813) of project a-project "
        "(123), zone us-west1-b"
    )
    assert shown().endswith("root cloud platform CA, of an instance that it does not name")
