"""Both ends of a run: first the run key; at the end the outputs' measurement, the statement and the
quote.

Order matters and follows docs/spec/measurement.md: the run key is made and certified before the
inputs are hashed, so that the TPM's clock says how long the run took; PCR 8 is extended and sealed
before the quote; the quote's extraData binds nonce, run key and statement, so no part can be
replaced by another run's.
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
    """Both registers must be zero: nobody measured into them before the runner."""
    for index, value in tpm.read_pcrs((OUTPUT_PCR, INPUT_PCR)).items():
        if value != ZERO:
            raise ToolError(f"PCR {index} is not zero at the start: {value.hex()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """The run key, and what the attestation key signed about it at the run's start, for `nonce`."""

    run_key: RunKey
    nonce: bytes
    certify: Signed


def make_run_key(tpm: Tpm, nonce: bytes) -> CertifiedKey:
    """Make the run key and have it certified: before anything is measured."""
    run_key = tpm.make_run_key()
    attest, signature = run_key.certify(nonce)
    certify = Signed(attest=attest, signature=signature)
    return CertifiedKey(run_key=run_key, nonce=nonce, certify=certify)


def measure_inputs(tpm: Tpm, lockfile: bytes, inputs: list[MeasuredInput]) -> None:
    """Extend PCR 14 with the lockfile, every input as hashed here, and the seal."""
    for event in input_events(lockfile, [(item.name, item.digest) for item in inputs]):
        tpm.extend(INPUT_PCR, event)


def sign_output(run_key: RunKey, name: str, files: Mapping[str, FileFact]) -> bytes:
    """The model signature (OMS bundle) of the output `name`, by the run key."""
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
    """What the machine knows about itself, including the digest of its GPUs' answers."""
    return {**builder, gpu.BUILDER_FACT: gpu.digest(devices)} if devices else builder


def attest(
    tpm: Tpm,
    key: CertifiedKey,
    statement: Statement,
    report: RunReport,
    lockfile: bytes,
    devices: Sequence[gpu.DeviceReport] = (),
) -> bytes:
    """Extend PCR 8, sign the statement, quote. Returns the certificate's bytes.

    `devices`: the GPUs' answers, which the statement names.
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
    """The run key's DER signature over the payload's pre-authentication encoding."""
    parsed = parse_signature(run_key.sign(hashlib.sha256(pae(payload)).digest()))
    return encode_dss_signature(parsed.r, parsed.s)
