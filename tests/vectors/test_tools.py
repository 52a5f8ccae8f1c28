"""The corpus against tpm2_checkquote and openssl: they accept what we accept.

They accept more than we do. This file lists the difference row by row, so that somebody looked at
each one; newer releases of these programs may refuse some of it too.
"""

from pathlib import Path

from cryptography import x509

from aicert.crypto import signatures
from aicert.crypto.x509 import trim_padding
from aicert.errors import EvidenceError
from aicert.formats import certificate, tpm
from aicert.formats.dsse import pae
from aicert.trust.roots import pem_to_der
from tests.vectors import reading, tools
from tests.vectors.reading import Vector

VECTORS = [vector for vector in map(reading.read, reading.paths()) if vector.verdict != "malformed"]

# tpm2_checkquote checks neither magic (CVE-2024-29038) nor type, no selection (CVE-2024-29039) and
# no trailing byte; it does not know the caller's challenge.
QUOTES_ACCEPTED_ELSEWHERE = {
    "another register relabelled by the selection (CVE-2024-29039)",
    "answers another challenge",
    "earlier time stamp that answers somebody else",
    "empty selection",
    "no selection",
    "quote larger than a TPM makes",
    "safe is neither yes nor no",
    "second, empty selection",
    "selection given twice",
    "SHA-1 bank beside ours",
    "SHA-1 bank",
    "SHA-384 bank",
    "trailing bytes in the quote",
    "trailing bytes in the signature",
    "wrong magic (CVE-2024-29038)",
}
# It reads no RSAPSS; a quote by a stranger is not by the certified key; and two rows name
# algorithms that neither program knows.
QUOTES_NOT_READ = {
    "RSAPSS with SHA-256",
    "AK of a kind that is not known",
    "quote signed with hash 0x0012",
    "quote signed with scheme 0x001b",
}
# openssl uses the time of appraisal; aicert appraises this row at the time of its time stamp.
CHAINS_OF_ANOTHER_TIME = {"certificate in ten years with a time stamp"}
# A web PKI knows no attestation keys: aicert alone judges purposes, subjects, simulated platforms
# and roots that are sent along, the form of a chain, and the strength of keys.
CHAINS_ACCEPTED_ELSEWHERE = {
    "AK certificate is a CA's",
    "AK certificate signed with SHA-1",
    "AK certificate without key purpose",
    "AK may sign certificates",
    "AK of a kind that is not known",
    "AK purpose under a root with another",
    "EK certificate that does not say its usage",
    "AK of 1024 bits",
    "EK certificate as AK",
    "any key purpose as AK",
    "chain is only the root",
    "chain over-long",
    "chain reordered",
    "intermediate for other keys only",
    "negative serial number",
    "root sent along twice",
    "serial number zero",
    "simulated AK under a cloud root",
    "simulated CA under a cloud root",
    "software AK under the qemu root",
    "stranger's CA appended",
    "subject of another service",
    "unknown critical extension",
    "unmarked AK under a simulated root",
}


def accepted_quote(vector: Vector, folder: Path) -> bool:
    parsed = certificate.parse(vector.certificate)
    evidence = parsed.evidence
    ak = x509.load_der_x509_certificate(trim_padding(evidence.ak_chain[0])).public_key()
    return tools.checkquote(
        folder,
        ak=tools.public_pem(ak),
        attest=evidence.quote.attest,
        signature=evidence.quote.signature,
        pcrs=evidence.pcrs,
        extra_data=tpm.quote_extra_data(
            evidence.nonce, tpm.sha256_name(evidence.run_key), parsed.envelope.payload
        ),
    )


@tools.needs_checkquote
def test_tpm2_checkquote_accepts_our_quotes(tmp_path: Path) -> None:
    good = [vector for vector in VECTORS if vector.verdict != "failed"]
    refused = {vector.name for vector in good if not accepted_quote(vector, tmp_path)}
    assert refused <= QUOTES_NOT_READ
    assert len(good) > 20


@tools.needs_checkquote
def test_quotes_that_tpm2_checkquote_accepts_and_we_do_not(tmp_path: Path) -> None:
    bad = [vector for vector in VECTORS if (vector.check or "").startswith("quote.")]
    accepted = {vector.name for vector in bad if accepted_quote(vector, tmp_path)}
    assert accepted <= QUOTES_ACCEPTED_ELSEWHERE
    assert {vector.name for vector in bad} > QUOTES_ACCEPTED_ELSEWHERE


def accepted_chain(vector: Vector, folder: Path) -> bool:
    try:
        chain = [trim_padding(c) for c in certificate.parse(vector.certificate).evidence.ak_chain]
        pinned = [text for name, text in vector.policy.items() if name.startswith("root-0-")]
        chain += [pem_to_der(text.encode(), "intermediate") for text in pinned]
        root = vector.policy["root-0.pem"].encode()
        return tools.verify_chain(folder, chain, root, vector.at)
    except (EvidenceError, ValueError, KeyError):
        # A certificate that cannot be written to a file, or a policy with its own roots.
        return False


@tools.needs_openssl
def test_openssl_accepts_our_chains(tmp_path: Path) -> None:
    distinct: dict[object, Vector] = {}
    for vector in VECTORS:
        if vector.check != "platform.chain":
            chain = certificate.parse(vector.certificate).evidence.ak_chain
            distinct.setdefault((chain, vector.policy["root-0.pem"], vector.at), vector)
    refused = [v.name for v in distinct.values() if not accepted_chain(v, tmp_path)]
    assert set(refused) == CHAINS_OF_ANOTHER_TIME
    assert len(distinct) >= 10


@tools.needs_openssl
def test_chains_that_openssl_accepts_and_we_do_not(tmp_path: Path) -> None:
    bad = [vector for vector in VECTORS if vector.check == "platform.chain"]
    accepted = {vector.name for vector in bad if accepted_chain(vector, tmp_path)}
    assert accepted <= CHAINS_ACCEPTED_ELSEWHERE
    assert {vector.name for vector in bad} > CHAINS_ACCEPTED_ELSEWHERE


@tools.needs_openssl
def test_openssl_says_the_same_of_statement_signatures(tmp_path: Path) -> None:
    distinct = {}
    for vector in VECTORS:
        if not (vector.check or "").startswith(("platform.", "quote.", "runkey.")):
            envelope = certificate.parse(vector.certificate).envelope
            distinct[envelope.payload, envelope.signature] = vector
    for vector in distinct.values():
        parsed = certificate.parse(vector.certificate)
        key = tools.public_pem(signatures.ec_key(tpm.parse_public(parsed.evidence.run_key)))
        envelope = parsed.envelope
        signed = tools.verify_signature(tmp_path, key, envelope.signature, pae(envelope.payload))
        assert signed == (vector.check != "statement.signature"), vector.name
    assert len(distinct) >= 10
