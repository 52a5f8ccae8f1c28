"""NVIDIA's devices and reference measurements, forged with test CAs: each refusal's message."""

from datetime import UTC, datetime

import pytest

from aicert.appraisal.evidence import nvidia_device, nvidia_rim, spdm_report
from aicert.errors import EvidenceError, UndecidedError
from tests.adversarial import nvidia_forge as forge

AT = datetime(2026, 10, 1, tzinfo=UTC)


def device(
    data: bytes | None = None, chain: tuple[bytes, ...] | None = None
) -> nvidia_device.Device:
    data, chain = data or forge.report(), chain or forge.chain()
    return nvidia_device.verify(data, chain, forge.ca_root(), forge.NONCE, AT)


def test_a_forged_device_is_like_a_genuine_one() -> None:
    one = device()
    assert (one.model, one.driver, one.vbios, one.is_switch) == (
        "GH100",
        "590.12",
        "96.00.A5.00.01",
        False,
    )
    assert one.report.measurements == forge.VALUES


@pytest.mark.parametrize(
    ("chain", "kind", "words"),
    [
        (forge.chain(name=None), EvidenceError, "does not name one model"),
        (
            forge.chain(name=b"\x0c\x3c" + forge.NAME[2:] + forge.NAME),
            EvidenceError,
            "does not name one model",
        ),
        (
            forge.chain(name=forge.NAME.replace(b"GH100", b"GB200")),
            UndecidedError,
            "a device of model GB200 is not known",
        ),
        (forge.chain(dice=b"\x30\0"), EvidenceError, "does not name the device's firmware"),
        (forge.chain(ca=True), EvidenceError, "the device's certificate is a CA certificate"),
        (forge.chain(constraints=False), EvidenceError, "may not sign certificates"),
        (forge.chain(path_length=0), EvidenceError, "may not have 1 CAs below it"),
        (
            forge.chain(dice=b"\x30\x3f" + forge.DICE + bytes(48)),
            EvidenceError,
            "and certificate name different firmware",
        ),
    ],
)
def test_certificates_that_are_refused(
    chain: tuple[bytes, ...], kind: type[EvidenceError], words: str
) -> None:
    with pytest.raises(EvidenceError, match=words) as refused:
        device(chain=chain)
    assert type(refused.value) is kind


def without(field: int) -> bytes:
    return forge.fields_of({k: v for k, v in forge.FIELDS.items() if k != field})


def with_field(field: int, value: bytes) -> bytes:
    return forge.fields_of(dict(forge.FIELDS) | {field: value})


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (forge.report(request=b"\x11\xe0\x00\xff"), EvidenceError, "other than all its"),
        (forge.report(slot=1), EvidenceError, "other than all its measurements"),
        (forge.report(response=b"\x11\x61\0\0"), EvidenceError, "other than measurements"),
        (forge.report(blocks=()), EvidenceError, "has no measurements"),
        (forge.report(blocks=(forge.block(2, bytes(48)),)), EvidenceError, "1 has number 2"),
        (forge.report(blocks=(forge.block(1, bytes(32)),)), UndecidedError, "32 bytes is not"),
        (
            forge.report(blocks=(forge.block(1, bytes(48), kind=2),)),
            UndecidedError,
            "measurement 1 of kind 2, 0x01, 48 bytes is not known",
        ),
        (
            forge.report(blocks=(forge.block(1, bytes(48), of_value=0x81),)),
            UndecidedError,
            "of kind 1, 0x81, 48 bytes is not known",
        ),
        (forge.report(fields=b"\1"), EvidenceError, "fields are cut short"),
        (forge.report(fields=b"\1\0\2\0\0"), EvidenceError, "fields are cut short"),
        (forge.report(fields=b"\1\0\0\0" * 2), EvidenceError, "field 1 appears twice"),
        (
            forge.report(fields=forge.fields_of(dict.fromkeys(range(65), b""))),
            EvidenceError,
            "or there are too many",
        ),
        (forge.report(fields=without(3)), EvidenceError, "has no readable field 3"),
        (forge.report(fields=with_field(3, b"\xff")), EvidenceError, "no readable field 3"),
        (forge.report(fields=without(6)), EvidenceError, "does not name its VBIOS"),
        (forge.report(fields=with_field(6, b"\1" * 8)), EvidenceError, "does not name its VBIOS"),
        (forge.report() + bytes(1 << 14), EvidenceError, "is larger than 16384 bytes"),
    ],
)
def test_reports_that_are_refused(data: bytes, kind: type[EvidenceError], words: str) -> None:
    with pytest.raises(EvidenceError, match=words) as refused:
        device(data)
    assert type(refused.value) is kind


def test_the_fields_that_nothing_decides_by_may_be_missing() -> None:
    """Reports of 2023 do not repeat the firmware's digest."""
    assert device(forge.report(fields=without(20))).driver == "590.12"
    assert spdm_report.parse(forge.report(fields=with_field(99, b"new"))).fields[99] == b"new"


def load(data: bytes) -> nvidia_rim.Rim:
    return nvidia_rim.load(data, forge.ca_root(), AT)


def test_a_forged_rim_is_like_a_genuine_one() -> None:
    rim = load(forge.rim(wanted={1: (True, forge.VALUES[1:3]), 2: (False, [bytes(48)])}))
    assert (rim.product, rim.version) == ("GH100", "590.12")
    assert rim.allowed == {1: frozenset(one.hex() for one in forge.VALUES[1:3])}
    assert nvidia_rim.compare(device(), rim, load(forge.rim("96.00.A5.00.01"))) == 1


def test_of_a_switch_one_rim_is_asked_for() -> None:
    """A switch runs no driver."""
    rim = load(forge.rim("96.00.A5.00.01", {0: (True, forge.VALUES[:1])}))
    assert nvidia_rim.compare(device(), None, rim) == 1


ONE = [bytes(48)]


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (forge.rim(name="Other"), UndecidedError, "the RIM is not a SWID tag"),
        (forge.rim(meta=""), EvidenceError, "has 0 elements Meta, not one"),
        (forge.rim(meta="<Meta></Meta>"), EvidenceError, "which product and version"),
        (forge.rim(meta='<Meta product="x"></Meta>'), EvidenceError, "which product and version"),
        (forge.rim(leaf_ca=True), EvidenceError, "the RIM's certificate is a CA certificate"),
        (
            forge.rim(info=forge.INFO.replace("xml-c14n11", "xml-c14n")),
            UndecidedError,
            "not of the one supported kind",
        ),
        (
            forge.rim(info="<ds:DigestValue>?</ds:DigestValue>{}"),
            UndecidedError,
            "not of the one supported kind",
        ),
        (
            forge.rim(resources=forge.resource("1", "true", ONE)),
            EvidenceError,
            "measurement 1 is malformed",
        ),
        (
            forge.rim(resources=forge.resource("1", "True", ONE) * 2),
            EvidenceError,
            "measurement 1 is malformed",
        ),
        (forge.rim(resources=forge.resource("x", "True", ONE)), EvidenceError, "no number index"),
        (forge.rim().replace(b"<ds:SignatureValue>", b"<ds:SignatureValue>!"), EvidenceError,
         "is not base64"),
        (
            forge.rim().replace(b"<ds:SignatureValue>", b"<ds:SignatureValue><a/>"),
            EvidenceError,
            "an element where text should be",
        ),
    ],
)  # fmt: skip
def test_rims_that_are_refused(data: bytes, kind: type[EvidenceError], words: str) -> None:
    with pytest.raises(EvidenceError, match=words) as refused:
        load(data)
    assert type(refused.value) is kind


def test_what_is_no_measurement_is_not_read() -> None:
    other = forge.resource("1", "True", ONE, kind="Other")
    assert load(forge.rim(resources=other)).allowed == {}


def test_another_signature_is_no_part_of_the_text() -> None:
    two = f"<ds:Signature{forge.DS}></ds:Signature>"
    with pytest.raises(EvidenceError, match="has 2 elements Signature, not one"):
        load(forge.rim(before=two))
