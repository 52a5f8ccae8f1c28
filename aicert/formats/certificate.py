"""The certificate file: signed statement, TPM evidence and lockfile in one JSON document.

Reading it authenticates nothing. Everything in it is bounded here, before any signature check
(docs/spec/certificate.md). Version 1 stays readable: it has the same form, but says less.
"""

from collections.abc import Mapping

from aicert.errors import EvidenceError
from aicert.formats import gpu
from aicert.formats.digest import Digest, is_hex, of_bytes
from aicert.formats.dsse import Envelope, b64decode, b64decode_items, b64encode
from aicert.formats.fields import shown
from aicert.formats.measurement import QUOTED_PCRS
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass, replace

VERSION = 2
KIND = "aicert-certificate"
# `azure-hcl`: a report of Azure's host compatibility layer around the processor's own report
# (aicert.appraisal.evidence.azure_hcl). `tdx`: a trust domain's own quote (tdx_quote).
AZURE_HCL, TDX = PLATFORM_KINDS = ("azure-hcl", "tdx")
# A statement of 8 MiB in base64, a boot log, a lockfile, and some room.
MAX_BYTES = 1 << 24
# TPM structures: TPM2B_MAX_BUFFER-sized at most; RSA-4096 signatures are 512 bytes.
MAX_TPM_BYTES = 4096
# More than `ak_chain` accepts, so that it gives the verdict on an over-long chain. Azure's AK
# certificates are padded to an NV index of 4096 bytes.
MAX_CHAIN = 6
MAX_CERT_BYTES = gpu.MAX_CERT_BYTES
# An Azure confidential machine keeps its report in an NV index of 2600 bytes.
# A TD quote has some 5000, in a buffer of 8000.
MAX_REPORT = 8192
# Intel's collateral for a processor has some 18 kB.
MAX_COLLATERAL = 1 << 18
# A real UEFI boot log has 15 to 60 kB (TCG logs of eight machines); 1 MiB is far above.
MAX_EVENT_LOG = 1 << 20
# A few tokens of a few kilobytes each, in base64, or a proof from a log.
MAX_TIMESTAMPS = 8
MAX_TIMESTAMP_CHARS = 1 << 17
# How entries of `timestamps` begin (docs/spec/time.md).
RFC3161 = "rfc3161:"
NOT_BEFORE = "not-before:"
# The limit for lockfiles themselves (`lockfile.MAX_BYTES`).
MAX_LOCKFILE_CHARS = 1 << 20
# An image lock lists some 500 packages.
MAX_IMAGE_LOCK_CHARS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A TPMS_ATTEST and the TPMT_SIGNATURE over it, as the TPM marshalled them."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformReport:
    """What a confidential machine's processor says about the machine.

    `report`: for kind `azure-hcl` the contents of NV 0x01400001, for kind `tdx` a TD quote. The
    host adds what no machine can fetch: the X.509 certificate of the processor's key
    (`chip_certificate`, DER), or Intel's `collateral` (JSON). `quote`: the TD quote of an Azure
    machine, whose report only its own processor could check. `given_collateral`: the verifier's
    own, which counts instead and is part of neither the certificate nor its digest.
    """

    report: bytes
    chip_certificate: bytes | None = None
    kind: str = AZURE_HCL
    quote: bytes | None = None
    collateral: bytes | None = None
    given_collateral: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence from the TPM. `pcrs`: the SHA-256 bank, 0–15; `ak_chain`: DER certificates, leaf
    first, without the root.

    `timestamps`: what others say about the time (docs/spec/time.md); they may be added afterwards.
    """

    nonce: bytes
    quote: Signed
    pcrs: Mapping[int, bytes]
    ak_chain: tuple[bytes, ...]
    run_key: bytes
    run_key_certify: Signed
    event_log: bytes | None = None
    platform: PlatformReport | None = None
    gpus: gpu.Gpus | None = None
    timestamps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The content of a certificate file. `lockfile`: the bytes of the run's lockfile; `image_lock`:
    a claim, never a reference value.

    In `version` 1 the run key was certified at the end of the run, and the run report is of version
    1.
    """

    envelope: Envelope
    evidence: Evidence
    lockfile: bytes
    image_lock: bytes | None = None
    version: int = VERSION


def emit(certificate: Certificate) -> bytes:
    """Return the certificate file's bytes."""
    evidence = certificate.evidence
    document: dict[str, object] = {
        "kind": KIND,
        "version": certificate.version,
        "envelope": certificate.envelope.to_json(),
        "lockfile": certificate.lockfile.decode("ascii"),
        "evidence": {
            "kind": "tpm2",
            "nonce": evidence.nonce.hex(),
            "quote": signed_json(evidence.quote),
            "pcrs": {str(index): value.hex() for index, value in evidence.pcrs.items()},
            "akChain": [b64encode(der) for der in evidence.ak_chain],
            "runKey": {
                "public": b64encode(evidence.run_key),
                "certify": signed_json(evidence.run_key_certify),
            },
            "timestamps": list(evidence.timestamps),
        }
        | ({} if evidence.event_log is None else {"eventLog": b64encode(evidence.event_log)})
        | ({} if evidence.platform is None else {"platform": _platform_json(evidence.platform)})
        | ({} if evidence.gpus is None else {"gpus": gpu.to_json(evidence.gpus)}),
    }
    if certificate.image_lock is not None:
        document["imageLock"] = certificate.image_lock.decode("ascii")
    return dumps(document) + b"\n"


def core_digest(certificate: Certificate) -> Digest:
    """Return *the* digest of a certificate: that of its bytes as emitted with `timestamps` empty.

    Evidence of when the certificate was made is added to it afterwards, so the digest cannot cover
    it; and a certificate's name stays the same when another token is added.
    """
    bare = replace(certificate.evidence, timestamps=())
    return of_bytes(emit(replace(certificate, evidence=bare)))


def parse(data: bytes) -> Certificate:
    """Read a certificate file; raises EvidenceError. Nothing in the result is authenticated."""
    fields = Fields(loads(data, what="certificate", max_bytes=MAX_BYTES), "certificate")
    fields.const("kind", KIND)
    version = fields.integer("version", low=1)
    if version > VERSION:
        raise EvidenceError(
            f"certificate has format version {version}, but this program reads up to {VERSION}",
            hint="in a checkout of this project: git pull && pip install .",
        )
    image_lock = None
    if fields.has("imageLock"):
        image_lock = _ascii(fields, "imageLock", MAX_IMAGE_LOCK_CHARS)
    certificate = Certificate(
        envelope=Envelope.from_json(fields.fields("envelope")),
        evidence=_read_evidence(fields.fields("evidence")),
        lockfile=_ascii(fields, "lockfile", MAX_LOCKFILE_CHARS),
        image_lock=image_lock,
        version=version,
    )
    fields.done()
    return certificate


def signed_json(signed: Signed) -> dict[str, str]:
    """Return an attestation and its signature as JSON-ready values."""
    return {"attest": b64encode(signed.attest), "signature": b64encode(signed.signature)}


def read_signed(fields: Fields, *, max_bytes: int = MAX_TPM_BYTES) -> Signed:
    """Read what `signed_json` writes: attestation and signature, each at most `max_bytes`."""
    signed = Signed(
        attest=b64decode(fields, "attest", max_bytes=max_bytes),
        signature=b64decode(fields, "signature", max_bytes=max_bytes),
    )
    fields.done()
    return signed


def _platform_json(platform: PlatformReport) -> dict[str, str]:
    fields = {"kind": platform.kind, "report": b64encode(platform.report)}
    added = {
        "chipCertificate": platform.chip_certificate,
        "quote": platform.quote,
        "collateral": platform.collateral,
    }
    return fields | {key: b64encode(data) for key, data in added.items() if data is not None}


def _read_platform(fields: Fields) -> PlatformReport:
    kind = fields.text("kind")
    if kind not in PLATFORM_KINDS:
        raise EvidenceError(f"{fields.where}.kind is not one of {', '.join(PLATFORM_KINDS)}")

    def added(key: str, limit: int) -> bytes | None:
        return b64decode(fields, key, max_bytes=limit) if fields.has(key) else None

    platform = PlatformReport(
        kind=kind,
        report=b64decode(fields, "report", max_bytes=MAX_REPORT),
        collateral=added("collateral", MAX_COLLATERAL),
        # A bare quote has nothing around it, and no certificate comes with it.
        chip_certificate=added("chipCertificate", MAX_CERT_BYTES) if kind == AZURE_HCL else None,
        quote=added("quote", MAX_REPORT) if kind == AZURE_HCL else None,
    )
    fields.done()
    return platform


def _read_evidence(fields: Fields) -> Evidence:
    fields.const("kind", "tpm2")
    run_key = fields.fields("runKey")
    event_log = None
    if fields.has("eventLog"):
        event_log = b64decode(fields, "eventLog", max_bytes=MAX_EVENT_LOG)
    evidence = Evidence(
        nonce=_hex(fields.text("nonce", max_length=64), "nonce"),
        quote=read_signed(fields.fields("quote")),
        pcrs=_read_pcrs(fields.fields("pcrs")),
        ak_chain=_read_chain(fields),
        run_key=b64decode(run_key, "public", max_bytes=MAX_TPM_BYTES),
        run_key_certify=read_signed(run_key.fields("certify")),
        event_log=event_log,
        platform=_read_platform(fields.fields("platform")) if fields.has("platform") else None,
        gpus=gpu.read(fields.fields("gpus")) if fields.has("gpus") else None,
        timestamps=fields.items("timestamps", _timestamp, max_items=MAX_TIMESTAMPS),
    )
    run_key.done()
    fields.done()
    return evidence


def _timestamp(value: object, where: str) -> str:
    if type(value) is not str or len(value) > MAX_TIMESTAMP_CHARS:
        raise EvidenceError(
            f"{where}: expected a string of at most {MAX_TIMESTAMP_CHARS} characters, "
            f"found {shown(value)}"
        )
    return value


def _read_pcrs(fields: Fields) -> dict[int, bytes]:
    pcrs = {i: _hex(fields.text(str(i), max_length=64), f"pcrs.{i}") for i in QUOTED_PCRS}
    fields.done()
    return pcrs


def _read_chain(fields: Fields) -> tuple[bytes, ...]:
    chain = b64decode_items(fields, "akChain", max_items=MAX_CHAIN, max_bytes=MAX_CERT_BYTES)
    if not chain:
        raise EvidenceError(f"{fields.where}.akChain is empty")
    return chain


def _hex(text: str, where: str) -> bytes:
    if not is_hex(text):
        raise EvidenceError(f"certificate: {where} is not 64 lowercase hexadecimal digits")
    return bytes.fromhex(text)


def _ascii(fields: Fields, key: str, max_chars: int) -> bytes:
    text = fields.text(key, max_length=max_chars)
    if not text.isascii():
        raise EvidenceError(f"{fields.where}.{key} is not ASCII")
    return text.encode("ascii")
