"""Genuine evidence from a real software TPM, in its raw parts, for tests of the verifier.

`make_evidence` does what the runner does with the TPM, in the runner's order, and no training.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enclave_runner.attester.tpm import Tpm
from rules.machines import swtpm
from rules.machines.ca import Ca, local_ca


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence from one boot of one platform; formats as in TPM 2.0 Library, Part 2."""

    attest: bytes
    """TPMS_ATTEST of the quote."""
    signature: bytes
    """TPMT_SIGNATURE over `attest`, by the attestation key."""
    pcrs: dict[int, bytes]
    """PCRs 0-15 of the SHA-256 bank."""
    ak_chain: tuple[bytes, ...]
    """DER certificates, leaf first."""
    run_key_public: bytes
    """TPMT_PUBLIC."""
    run_key_name: bytes
    certify_attest: bytes
    """TPMS_ATTEST of TPM2_Certify, with the nonce as its qualifying data."""
    certify_signature: bytes
    statement_signature: bytes
    """TPMT_SIGNATURE by the run key over SHA-256(`to_sign`)."""
    ca_pem: bytes


@contextlib.contextmanager
def working_directory(path: Path) -> Iterator[None]:
    """Work inside `path`, as the runner does, because sockets are named relative to it."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def fresh_tpm(ca: Ca | None = None) -> Iterator[tuple[Tpm, Ca]]:
    """Yield a prepared software TPM in a directory of its own, open as the runner opens it."""
    with tempfile.TemporaryDirectory(prefix="aicert-tpm-") as name:
        run_dir = Path(name) / "run"
        run_dir.mkdir()
        authority = ca or local_ca(Path(name), "local")
        with (
            swtpm.platform(run_dir, authority) as tcti,
            working_directory(run_dir),
            Tpm(tcti) as tpm,
        ):
            yield tpm, authority


def make_evidence(
    *,
    nonce: bytes,
    statement: bytes,
    events: Sequence[tuple[int, bytes]] = (),
    to_sign: bytes | None = None,
    ca: Ca | None = None,
) -> Evidence:
    """Make evidence over `statement` after extending each (PCR, event bytes) of `events` in order.

    `to_sign` is what the run key signs if that is not `statement` itself (a DSSE encoding).
    """
    with fresh_tpm(ca) as (tpm, authority):
        ak_chain = tpm.ak_chain()
        key = tpm.make_run_key()
        certify_attest, certify_signature = key.certify(nonce)
        for pcr, event in events:
            tpm.extend(pcr, event)
        signed = statement if to_sign is None else to_sign
        statement_signature = key.sign(hashlib.sha256(signed).digest())
        attest, signature, pcrs = tpm.quote(quote_extra_data(nonce, key.name, statement))
        key.flush()
        return Evidence(
            attest=attest,
            signature=signature,
            pcrs=pcrs,
            ak_chain=ak_chain,
            run_key_public=key.public,
            run_key_name=key.name,
            certify_attest=certify_attest,
            certify_signature=certify_signature,
            statement_signature=statement_signature,
            ca_pem=authority.path.read_bytes(),
        )


def quote_extra_data(nonce: bytes, run_key_name: bytes, statement: bytes) -> bytes:
    """Return the quote's extraData, computed here a second time so that tests need not trust the
    core.
    """
    parts = (b"aicert quote v1\0", nonce, run_key_name, hashlib.sha256(statement).digest())
    return hashlib.sha256(b"".join(parts)).digest()
