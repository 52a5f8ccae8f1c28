"""Attest to a run: make its key at the start; at the end measure the outputs, sign and quote.

The order matters and follows docs/spec/measurement.md: the run key is made and certified before the
inputs are hashed, so that the TPM's clock shows how long the run took; PCR 8 is extended and sealed
before the quote; the quote's extraData binds nonce, run key and statement, so that none of them can
be replaced by one of another run.
"""

import hashlib
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from aicert.crypto.signatures import ec_key
from aicert.errors import ToolError
from aicert.formats import gpu
from aicert.formats.certificate import Certificate, Evidence, PlatformReport, Signed, emit
from aicert.formats.digest import Digest, FileFact
from aicert.formats.dsse import Envelope, pae
from aicert.formats.measurement import INPUT_PCR, OUTPUT_PCR, ZERO, input_events, output_events
from aicert.formats.run_report import RunReport
from aicert.formats.statement import Statement
from aicert.formats.statement import emit as emit_statement
from aicert.formats.tpm import parse_public, parse_signature, quote_extra_data
from aicert.formats.uncovered_names import ignored_paths
from aicert.frozen import dataclass, replace
from aicert.model_signature import writer
from enclave_runner.attester.tpm import RunKey, Tpm
from enclave_runner.inputs.measure import MeasuredInput


def check_registers(tpm: Tpm) -> None:
    """Check that PCR 8 and PCR 14 are zero, so that the runner is the first to extend them."""
    for index, value in tpm.read_pcrs((OUTPUT_PCR, INPUT_PCR)).items():
        if value != ZERO:
            raise ToolError(f"PCR {index} is not zero at the start: {value.hex()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """The run key, and the attestation key's signature about it, made at the start for `nonce`."""

    run_key: RunKey
    nonce: bytes
    certify: Signed


def make_run_key(tpm: Tpm, nonce: bytes) -> CertifiedKey:
    """Make the run key and have the attestation key certify it. Call it before measuring."""
    run_key = tpm.make_run_key()
    attest, signature = run_key.certify(nonce)
    certify = Signed(attest=attest, signature=signature)
    return CertifiedKey(run_key=run_key, nonce=nonce, certify=certify)


def measure_inputs(tpm: Tpm, lockfile: bytes, inputs: list[MeasuredInput]) -> None:
    """Extend PCR 14 with the lockfile, the measured digest of every input, and the seal."""
    for event in input_events(lockfile, [(item.name, item.digest) for item in inputs]):
        tpm.extend(INPUT_PCR, event)


def sign_output(run_key: RunKey, name: str, files: Mapping[str, FileFact]) -> bytes:
    """Sign the output `name` with the run key; return the model signature (OMS bundle)."""
    payload = writer.statement(
        name, {path: fact.sha256 for path, fact in files.items()}, ignored_paths()
    )
    signature = _signature(run_key, payload)
    return writer.bundle(
        payload, signature, writer.key_material(ec_key(parse_public(run_key.public)))
    )


def with_gpus(
    builder: Mapping[str, Digest], devices: Sequence[gpu.DeviceReport]
) -> Mapping[str, Digest]:
    """Return the facts about the machine with the digest of its GPUs' reports added, if any."""
    return {**builder, gpu.BUILDER_FACT: gpu.digest(devices)} if devices else builder


def attest(
    tpm: Tpm,
    key: CertifiedKey,
    statement: Statement,
    report: RunReport,
    lockfile: bytes,
    devices: Sequence[gpu.DeviceReport] = (),
) -> bytes:
    """Extend PCR 8, sign the statement and quote; return the certificate's bytes.

    `devices`: the reports of the GPUs, whose digest is in the statement.
    """
    outputs: dict[str, Digest] = {n: o.digest for n, o in statement.outputs.items()}
    for event in output_events(report.exit_code, outputs, statement.report_digest):
        tpm.extend(OUTPUT_PCR, event)
    payload = emit_statement(statement)
    evidence, signature = _sign_and_quote(tpm, key, payload)
    if devices:
        evidence = replace(evidence, gpus=gpu.Gpus(devices=tuple(devices)))
    certificate = Certificate(
        envelope=Envelope(payload=payload, signature=signature, keyid=key.run_key.name.hex()),
        evidence=evidence,
        lockfile=lockfile,
    )
    return emit(certificate)


def _sign_and_quote(tpm: Tpm, key: CertifiedKey, payload: bytes) -> tuple[Evidence, bytes]:
    signature = _signature(key.run_key, payload)
    qualifying = quote_extra_data(nonce=key.nonce, run_key_name=key.run_key.name, statement=payload)
    attest_bytes, quote_signature, pcrs = tpm.quote(qualifying)
    report = tpm.platform_report()
    evidence = Evidence(
        nonce=key.nonce,
        quote=Signed(attest=attest_bytes, signature=quote_signature),
        pcrs=pcrs,
        ak_chain=tpm.ak_chain(),
        run_key=key.run_key.public,
        run_key_certify=key.certify,
        platform=None if report is None else PlatformReport(report=report),
    )
    return evidence, signature


def _signature(run_key: RunKey, payload: bytes) -> bytes:
    """Sign the payload's pre-authentication encoding (DSSE) with the run key; return it as DER."""
    parsed = parse_signature(run_key.sign(hashlib.sha256(pae(payload)).digest()))
    return encode_dss_signature(parsed.r, parsed.s)
