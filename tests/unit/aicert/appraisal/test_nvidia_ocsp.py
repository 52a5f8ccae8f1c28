"""OCSP answers: openssl reads those of the Forger, and each refusal has its message."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from aicert.appraisal.evidence import nvidia_ocsp
from aicert.errors import EvidenceError, UndecidedError
from tests.adversarial import ca_forge
from tests.adversarial import nvidia_forge as forge
from tests.adversarial.ca_forge import AT, ec_key, issue
from tests.adversarial.td_forge import ISSUED, NEXT

ISSUER = x509.load_der_x509_certificate(forge.ca_root())
DER = issue("subject", ec_key("x"), issuer=forge.CA, issuer_key=forge.CA_KEY, serial=42)
SUBJECT = x509.load_der_x509_certificate(DER)


def check(*answers: bytes, issuer: x509.Certificate = ISSUER, at: datetime = AT) -> None:
    nvidia_ocsp.check(SUBJECT, issuer, [nvidia_ocsp.read(one) for one in answers], at)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (forge.answer(42), "good"),
        (forge.answer(42, key=forge.CA_KEY, signer=()), "good"),
        (forge.answer(42, revoked=1), "revoked"),
        (forge.answer(42, revoked=6), "revoked"),
        (forge.answer(42, unknown=True), "unknown"),
        (forge.answer(42, hash_="sha1"), "good"),
    ],
)
def test_openssl_reads_the_same(answer: bytes, status: str, tmp_path: Path) -> None:
    for name, der in (("root", forge.ca_root()), ("subject", DER)):
        (tmp_path / f"{name}.pem").write_bytes(ca_forge.pem(der))
    (tmp_path / "answer").write_bytes(answer)
    root, subject = str(tmp_path / "root.pem"), str(tmp_path / "subject.pem")
    hash_ = ["-sha1" if answer == forge.answer(42, hash_="sha1") else "-sha384"]
    command = ["openssl", "ocsp", "-respin", str(tmp_path / "answer"), "-CAfile", root]
    command += ["-issuer", root, *hash_, "-cert", subject, "-attime", str(int(AT.timestamp()))]
    done = subprocess.run(
        [*command, "-no_nonce", "-validity_period", "9999999999"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Response verify OK" in done.stderr
    assert f"subject.pem: {status}" in done.stdout
    read = nvidia_ocsp.read(answer)
    wanted = {"good": nvidia_ocsp.GOOD, "revoked": nvidia_ocsp.REVOKED}
    assert read.status == wanted.get(status, nvidia_ocsp.UNKNOWN)
    assert (read.serial, read.start, read.end) == (42, ISSUED, NEXT)


def test_a_good_answer_is_good_to_its_last_second() -> None:
    check(forge.answer(42))
    check(forge.answer(42), at=NEXT)
    check(forge.answer(42), at=ISSUED)
    check(forge.answer(42, unknown=True), forge.answer(42), forge.answer(7, revoked=1))


def test_one_that_says_no_is_enough() -> None:
    for answers in ((forge.answer(42), forge.answer(42, revoked=1)),
                    (forge.answer(42, revoked=6), forge.answer(42))):  # fmt: skip
        with pytest.raises(EvidenceError, match="'subject' was revoked at 2026-10-20T00:00:00Z"):
            check(*answers)


def test_none_is_no_answer() -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    for answers, at in (((), AT), ((forge.answer(42),), later), ((forge.answer(43),), AT)):
        with pytest.raises(UndecidedError, match=r"no answer for .* whether 'subject' was revoked"):
            check(*answers, at=at)


def test_of_another_kind_of_key_nothing_is_known() -> None:
    key = ca_forge.rsa_key("ak")
    other = x509.load_der_x509_certificate(ca_forge.root(forge.CA, key))
    with pytest.raises(UndecidedError, match="signed with an unknown kind of key"):
        check(forge.answer(42), issuer=other)


def changed(old: str, new: str, answer: bytes = forge.answer(42)) -> bytes:
    """Replace octets of the answer, in hexadecimal, by as many others."""
    data = answer.replace(bytes.fromhex(old), bytes.fromhex(new))
    assert data != answer
    return data


def test_a_year_before_1000_is_read_on_every_system() -> None:
    assert nvidia_ocsp.read(changed(b"20261119".hex(), b"05261119".hex())) is not None


UNSIGNED = "06092b0601050507300101"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (forge.answer(42, state=1), UndecidedError, "only an error status"),
        (changed(UNSIGNED, UNSIGNED[:-2] + "02"), UndecidedError, "not a basic OCSP response"),
        (
            changed("2a8648ce3d040303", "2a8648ce3d040301"),
            UndecidedError,
            "signed with an unknown algorithm",
        ),
        (
            changed("0609608648016503040202", "0609608648016503040209"),
            UndecidedError,
            "names an issuer by an unknown hash",
        ),
        (forge.answer(42, number=3), UndecidedError, "is about 3 certificates"),
        (forge.answer(42, number=0), UndecidedError, "is about 0 certificates"),
        (forge.answer(42, critical=True), UndecidedError, "unknown critical extension"),
        (changed(b"20261119".hex(), b"20269919".hex()), EvidenceError, "has no time such as"),
        (changed(b"20261119".hex(), b"2026 119".hex()), EvidenceError, "has no time such as"),
        (forge.answer(42)[:-1], EvidenceError, "cut short"),
        (forge.answer(42) + b"\0", EvidenceError, "trailing bytes"),
        (bytes(8193), EvidenceError, "8193 bytes, more than 8192"),
        (
            forge.answer(42, signer=(forge.responder(),) * 5),
            EvidenceError,
            "more than 4 elements",
        ),
    ],
)
def test_what_cannot_be_read(answer: bytes, kind: type[EvidenceError], words: str) -> None:
    with pytest.raises(EvidenceError, match=words) as refused:
        nvidia_ocsp.read(answer)
    assert type(refused.value) is kind


def test_an_extension_that_is_not_critical_is_not_read() -> None:
    check(forge.answer(42, critical=None))


def test_no_reason_is_a_revocation_too() -> None:
    with pytest.raises(EvidenceError, match=r"was revoked at 2026-10-20T00:00:00Z$"):
        check(forge.answer(42, revoked=-1))
