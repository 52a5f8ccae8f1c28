"""A whole certificate from a real software TPM, judged by every program that can judge a part of
it.

Ours, the second verifier, `tpm2_checkquote`, `openssl verify` and `openssl dgst` agree about the
good one, and about copies of it with one bit changed.
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import utils

from aicert.crypto import signatures
from aicert.formats import tpm
from aicert.formats.dsse import pae
from aicert.trust.roots import pem_to_der
from tests.adversarial.forger import NONCE, Scene
from tests.e2e.verify.make_evidence import Evidence, make_evidence
from tests.vectors import tools
from tests.vectors.test_differential import first, second


@pytest.fixture(scope="module")
def planned() -> Scene:
    """Return the scene of what the machine will measure and state."""
    return Scene("local", 2)


@pytest.fixture(scope="module")
def evidence(planned: Scene) -> Evidence:
    events = [(14, event) for event in planned.get("input_events")]
    events += [(8, event) for event in planned.get("output_events")]
    payload = planned.get("payload")
    return make_evidence(nonce=NONCE, statement=payload, events=events, to_sign=pae(payload))


def der(signature: bytes) -> bytes:
    parsed = tpm.parse_signature(signature)
    return utils.encode_dss_signature(parsed.r, parsed.s)


def scene_of(evidence: Evidence) -> Scene:
    scene = Scene("local", 2)
    scene.at = datetime.now(UTC)
    scene.put("root", pem_to_der(evidence.ca_pem, "root"))
    scene.put("chain", evidence.ak_chain)
    scene.put("pcrs", evidence.pcrs)
    scene.put("run_public", evidence.run_key_public)
    scene.put("quote_attest", evidence.attest)
    scene.put("quote_signature", evidence.signature)
    scene.put("certify_attest", evidence.certify_attest)
    scene.put("certify_signature", evidence.certify_signature)
    return scene.put("dsse", der(evidence.statement_signature))


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_both_verifiers_pass_it(evidence: Evidence, tmp_path: Path) -> None:
    scene = scene_of(evidence)
    assert first(scene) == second(scene, tmp_path) == ("passed", None)
    start = tpm.parse_certification(evidence.certify_attest).clock.clock
    end = tpm.parse_quote(evidence.attest).clock.clock
    assert scene.appraise().attested_seconds == (end - start) / 1000


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ("quote_attest", "quote.signature"),
        ("quote_signature", "quote.signature"),
        ("certify_attest", "runkey.certified"),
        ("certify_signature", "runkey.certified"),
        ("run_public", "quote.nonce"),
        ("dsse", "statement.signature"),
        ("payload", "quote.nonce"),
    ],
)
def test_both_refuse_it_with_one_bit_changed(
    evidence: Evidence, tmp_path: Path, part: str, check: str
) -> None:
    # The flipped bit is in the last octet: of a firmware digest, a signature's number, a point, a
    # text.
    scene = scene_of(evidence).edit(part, lambda data: flipped(data, len(data) - 1))
    assert first(scene) == second(scene, tmp_path) == ("failed", check)


@tools.needs_checkquote
@pytest.mark.parametrize("change", ["", "attest", "signature", "pcrs", "extra_data"])
def test_tpm2_checkquote_agrees(
    planned: Scene, evidence: Evidence, tmp_path: Path, change: str
) -> None:
    key = x509.load_der_x509_certificate(evidence.ak_chain[0]).public_key()
    payload = planned.get("payload")
    extra = tpm.quote_extra_data(NONCE, evidence.run_key_name, payload)
    parts = {"attest": evidence.attest, "signature": evidence.signature, "extra_data": extra}
    pcrs = dict(evidence.pcrs)
    if change == "pcrs":
        pcrs[14], pcrs[8] = pcrs[8], pcrs[14]
    elif change:
        parts[change] = flipped(parts[change], len(parts[change]) - 1)
    accepted = tools.checkquote(
        tmp_path,
        ak=tools.public_pem(key),
        pcrs=pcrs,
        attest=parts["attest"],
        signature=parts["signature"],
        extra_data=parts["extra_data"],
    )
    assert accepted == (not change)


@tools.needs_openssl
def test_openssl_agrees_on_the_chain(evidence: Evidence, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    assert tools.verify_chain(tmp_path, evidence.ak_chain, evidence.ca_pem, now)
    other = tools.pem(Scene().get("root"))
    assert not tools.verify_chain(tmp_path, evidence.ak_chain, other, now)


@tools.needs_openssl
def test_openssl_agrees_on_the_statement(
    planned: Scene, evidence: Evidence, tmp_path: Path
) -> None:
    key = tools.public_pem(signatures.ec_key(tpm.parse_public(evidence.run_key_public)))
    signed = pae(planned.get("payload"))
    signature = der(evidence.statement_signature)
    assert tools.verify_signature(tmp_path, key, signature, signed)
    assert not tools.verify_signature(tmp_path, key, signature, signed + b" ")
