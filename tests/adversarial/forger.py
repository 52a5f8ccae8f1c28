"""The Forger: it holds every key there is (CA, AK, run key) and re-signs whatever it changed.

A `Scene` is one certificate in the making, with the verifier's side of it (policy, model on disk,
challenge, expected lockfile). Parts are made when they are needed, each from those before it, so
that editing one part re-makes, re-measures and re-signs everything that follows from it:

    scene = Scene()
    scene.edit("report", lambda report: replace(report, exit_code="1"))
    result = scene.appraise()
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.appraisal.ak_chain import SIMULATED_TIERS, Root
from aicert.appraisal.appraise import appraise
from aicert.appraisal.policy import Firmware, Policy
from aicert.appraisal.result import AttestationResult
from aicert.formats import certificate as certificates
from aicert.formats import image_lock, lockfile, run_report, statement
from aicert.formats.certificate import Certificate, Evidence, PlatformReport, Signed
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.dsse import Envelope, pae
from aicert.formats.gpu import DeviceReport, Gpus
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.formats.measurement import ZERO, input_events, output_events, replay
from aicert.formats.run_report import RunReport, Value
from aicert.formats.run_report_facts import Loss, Records
from aicert.formats.statement import Dependency, Output, Statement
from tests.adversarial import ca_forge, chip_forge, nvidia_forge, td_forge, tpm_forge
from tests.adversarial.ca_forge import AT, EKU_AK, ec_key, issue, root, rsa_key, usage

NONCE = bytes(range(32))
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights after training",
    "tokenizer.json": b"{}",
}
AZURE_LIKE = "vm1.TrustedVM.Azure.windows.net"
TIERS = {
    **SIMULATED_TIERS,
    "cloud": "vtpm",
    "confidential": "confidential",
    # Trust domains of Intel's processors: below Azure's paravisor, and without a paravisor.
    "azure td": "confidential",
    "bare td": "confidential",
    # Like `confidential`, with GPUs.
    "gpu": "confidential-gpu",
}
SNP = ("confidential", "gpu")
TDS = ("azure td", "bare td")
FIRMWARE = {index: hashlib.sha256(b"firmware %d" % index).digest() for index in (0, 1, 2, 3, 7)}
BOOT = {4: b"\x44" * 32, 11: b"\x11" * 32, 12: ZERO, 13: ZERO}
# The quote is made at 1000 ms on the TPM's clock.
STARTED_MS = 250
LOSSES = (6.0, 5.5, 5.0, 4.75, 4.5, 4.5, 4.25, 4.25, 4.0, 4.0)
FACTS: dict[str, Any] = {
    "records": (
        Records(
            name="alpaca",
            split="train",
            rows=256,
            bytes=48_211,
            digest=Digest("sha256", "a1" * 32),
            unread_bytes=12,
            files=("train.jsonl",),
        ),
    ),
    "loss": Loss(
        state="measured",
        before=6.125,
        after=4.0,
        comparable=True,
        rows=64,
        tokens=8000,
        template_tokens=2000,
    ),
    "texts": (("chat template", Digest("sha256", "7e" * 32)),),
    "removed": ("model/config.json: name_or_path",),
}
VERITY = {"root": Digest("sha256", "ab" * 32)}


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Scene:
    """One forged certificate and the verifier that appraises it; `kind` is one of TIERS.

    `version` is that of the certificate and of the run report.
    """

    def __init__(self, kind: str = "local", version: int = 1) -> None:
        self.kind = kind
        self.version = version
        self.driver = kind if kind in SIMULATED_TIERS else None
        self.tier = TIERS[kind]
        self.edits: dict[str, list[Callable[[Any], Any]]] = defaultdict(list)
        self.parts: dict[str, Any] = {}
        self.ca_key = ec_key(f"ca {kind}")
        self.ca_name = f"{kind} platform CA"
        self.ak: tpm_forge.AkKey = rsa_key("ak")
        self.run_key = ec_key("run key")
        self.chip_key = chip_forge.chip_key()
        # The verifier's side.
        self.at: datetime = AT
        self.caller_nonce: bytes | None = None
        self.caller_lockfile: Digest | bytes | None = None
        self.ancestors: Sequence[Certificate] | None = None
        self.audits: Sequence[tuple[Certificate, bytes]] | None = None
        self.with_model = True

    def edit(self, part: str, change: Callable[[Any], Any]) -> "Scene":
        """Apply `change` when the part is made; everything that depends on it follows."""
        if not hasattr(self, f"make_{part}"):
            raise KeyError(part)
        self.edits[part].append(change)
        self.parts.clear()
        return self

    def put(self, part: str, value: object) -> "Scene":
        return self.edit(part, lambda _: value)

    def get(self, part: str) -> Any:
        if part not in self.parts:
            value = getattr(self, f"make_{part}")()
            for change in self.edits[part]:
                value = change(value)
            self.parts[part] = value
        return self.parts[part]

    # The machine's inputs and outputs.

    def make_lockfile(self) -> Lockfile:
        def locked(name: str, digest: str) -> LockedInput:
            uri = f"path:examples/{name}"
            return LockedInput(name=name, source=uri, uri=uri, size=10, digest=Digest.parse(digest))

        return Lockfile(
            run="tiny",
            trainer="axolotl",
            outputs=("model",),
            inputs=(
                locked("alpaca", "dirHash:" + hex_of(b"alpaca")),
                locked("config", "sha256:" + hex_of(b"config")),
                locked("model", "dirHash:" + hex_of(b"base model")),
            ),
        )

    def make_lockfile_bytes(self) -> bytes:
        return lockfile.emit(self.get("lockfile"))

    def make_input_events(self) -> list[bytes]:
        inputs = [(item.name, item.digest) for item in self.get("lockfile").inputs]
        return input_events(self.get("lockfile_bytes"), inputs)

    def make_outputs(self) -> dict[str, dict[str, bytes]]:
        return {"model": dict(FILES)}

    def make_report(self) -> RunReport:
        """Make the run report: version 2 adds records and measured losses, over ten steps."""
        facts: dict[str, Any] = FACTS if self.version > 1 else {}
        more = {"losses": Value("self-reported", LOSSES)} if self.version > 1 else {}
        return RunReport(
            version=self.version,
            **facts,
            exit_code="0",
            values={
                "steps": Value("self-reported", 40),
                "tokens": Value("self-reported", 5120),
                "tensorsChanged": Value("measured", 2),
                "tensorsNew": Value("measured", 1),
                "tensorsUnchanged": Value("measured", 3),
                "totalFlops": Value("derived", 1.5e12),
                "wallSeconds": Value("measured", 20.5),
            }
            | more,
        )

    def make_report_bytes(self) -> bytes:
        return run_report.emit(self.get("report"))

    # The statement and its signature.

    def make_statement(self) -> Statement:
        locked: Lockfile = self.get("lockfile")
        outputs = {}
        for name, files in self.get("outputs").items():
            digests = {path: hex_of(data) for path, data in files.items()}
            outputs[name] = Output(digest=dir_digest(digests), files=digests)
        return Statement(
            run=locked.run,
            trainer=locked.trainer,
            lockfile=of_bytes(self.get("lockfile_bytes")),
            dependencies=tuple(
                Dependency(name=i.name, uri=i.uri, digest=i.digest) for i in locked.inputs
            ),
            outputs=outputs,
            builder_id="urn:aicert:builder:test",
            builder=self.get("builder"),
            nonce=self.get("nonce"),
            started="2026-10-31T10:00:00Z",
            finished="2026-10-31T10:05:00Z",
            report=self.get("report_bytes"),
            log=Digest("sha256", hex_of(b"log")),
        )

    def make_builder(self) -> dict[str, Digest]:
        """Make what the machine states about itself, with the answers of any devices."""
        known = {"runner": Digest("sha256", "cd" * 32), **VERITY}
        if self.kind == "gpu":
            devices: tuple[DeviceReport, ...] = self.get("device_reports")
            data = (part for one in devices for part in (one.report, *one.chain))
            parts = b"".join(hashlib.sha256(part).digest() for part in data)
            known["gpus"] = Digest("sha256", hex_of(parts))
        return known

    def make_nonce(self) -> bytes:
        return NONCE

    def make_payload(self) -> bytes:
        return statement.emit(self.get("statement"))

    def make_signer(self) -> ec.EllipticCurvePrivateKey:
        return self.run_key

    def make_dsse(self) -> bytes:
        signed = pae(self.get("payload"))
        return bytes(self.get("signer").sign(signed, ca_forge.ecdsa(hashes.SHA256())))

    # The TPM.

    def make_output_events(self) -> list[bytes]:
        claimed: Statement = self.get("statement")
        outputs = {name: output.digest for name, output in claimed.outputs.items()}
        return output_events(self.get("report").exit_code, outputs, of_bytes(claimed.report))

    def make_pcrs(self) -> dict[int, bytes]:
        values = dict.fromkeys(range(16), ZERO)
        if self.kind != "local":
            values |= FIRMWARE | BOOT | {5: b"\x55" * 32, 9: b"\x99" * 32}
        values[14] = replay(self.get("input_events"))
        values[8] = replay(self.get("output_events"))
        return values

    def make_run_public(self) -> bytes:
        return tpm_forge.ecc_public(self.run_key.public_key())

    def make_certify(self) -> dict[str, Any]:
        name = tpm_forge.name_of(self.get("run_public"))
        certify = {
            "kind": tpm_forge.CERTIFY,
            "extra": self.get("nonce"),
            "body": tpm_forge.certify_body(name, tpm_forge.primary_qualified_name(name)),
        }
        return certify if self.version == 1 else certify | {"clock": STARTED_MS}

    def make_certify_attest(self) -> bytes:
        return tpm_forge.attest(**self.get("certify"))

    def make_certify_signature(self) -> bytes:
        return tpm_forge.sign(self.ak, self.get("certify_attest"))

    def make_extra_data(self) -> bytes:
        name = tpm_forge.name_of(self.get("run_public"))
        payload = hashlib.sha256(self.get("payload")).digest()
        return hashlib.sha256(b"aicert quote v1\0" + self.get("nonce") + name + payload).digest()

    def make_selections(self) -> bytes:
        return tpm_forge.selections(tpm_forge.selection(range(16)))

    def make_pcr_digest(self) -> bytes:
        pcrs = self.get("pcrs")
        return hashlib.sha256(b"".join(pcrs[index] for index in range(16))).digest()

    def make_quote(self) -> dict[str, Any]:
        return {
            "kind": tpm_forge.QUOTE,
            "extra": self.get("extra_data"),
            "body": tpm_forge.quote_body(self.get("selections"), self.get("pcr_digest")),
        }

    def make_quote_attest(self) -> bytes:
        return tpm_forge.attest(**self.get("quote"))

    def make_quote_signature(self) -> bytes:
        return tpm_forge.sign(self.ak, self.get("quote_attest"))

    # The platform.

    def make_root(self) -> bytes:
        return root(self.ca_name, self.ca_key, driver=self.driver)

    def make_ak_options(self) -> dict[str, Any]:
        return {
            "issuer": self.ca_name,
            "issuer_key": self.ca_key,
            "key_usage": usage(),
            "purposes": (EKU_AK,),
            "driver": self.driver,
        }

    def make_chain(self) -> tuple[bytes, ...]:
        return (issue(AZURE_LIKE, self.ak, **self.get("ak_options")),)

    def make_image_lock(self) -> bytes | None:
        if self.kind == "local":
            return None
        return image_lock.emit(
            name="machine", disk=Digest("sha256", "ef" * 32), pcrs=BOOT, verity=VERITY
        )

    # What protects a confidential machine: its processor, and the paravisor with the TPM.

    def make_runtime(self) -> bytes:
        return chip_forge.runtime([chip_forge.jwk("HCLAkPub", rsa_key("ak").public_key())])

    def make_report_data(self) -> bytes:
        return chip_forge.report_data(self.get("runtime"))

    def make_guest(self) -> dict[str, Any]:
        return chip_forge.guest()

    def make_snp(self) -> bytes:
        return chip_forge.report(self.get("guest"), self.get("report_data"))

    def make_snp_signed(self) -> bytes:
        return chip_forge.signed(self.get("snp"), self.chip_key)

    def make_hcl(self) -> bytes:
        return chip_forge.hcl(self.get("snp_signed"), self.get("runtime"))

    def make_vcek(self) -> bytes | None:
        return chip_forge.vcek()

    # A trust domain: its properties, who signs its quote, and the processor maker's collateral.

    def make_td(self) -> dict[str, Any]:
        return td_forge.td(**({"rtmrs": td_forge.RTMRS} if self.kind == "bare td" else {}))

    def make_td_report_data(self) -> bytes:
        if self.kind == "bare td":
            return td_forge.bound(self.get("nonce"), self.ak)
        return self.get("report_data")  # type: ignore[no-any-return]

    def make_td_signed(self) -> bytes:
        return td_forge.signed_part(self.get("td"), self.get("td_report_data"))

    def make_enclave(self) -> dict[str, Any]:
        return td_forge.enclave()

    def make_pck_chain(self) -> tuple[bytes, ...]:
        return (td_forge.pck(), td_forge.pck_ca(), td_forge.certified_root())

    def make_td_quote(self) -> bytes | None:
        key = ec_key("td attestation key")
        return td_forge.quote(
            self.get("td_signed"), self.get("enclave"), self.get("pck_chain"), key
        )

    def make_tcb_info(self) -> dict[str, Any]:
        return td_forge.tcb_info()

    def make_qe_identity(self) -> dict[str, Any]:
        return td_forge.qe_identity()

    def make_collateral(self) -> dict[str, str]:
        return td_forge.collateral(
            td_forge.compact(self.get("tcb_info")), td_forge.compact(self.get("qe_identity"))
        )

    def make_collateral_file(self) -> bytes | None:
        return json.dumps(self.get("collateral")).encode()

    def make_platform(self) -> PlatformReport | None:
        if self.kind == "bare td":
            return PlatformReport(
                kind="tdx", report=self.get("td_quote"), collateral=self.get("collateral_file")
            )
        if self.kind == "azure td":
            # The wrapped hardware report has the processor's own form; the verifier does not read
            # it.
            wrapped = chip_forge.hcl(b"\x81".ljust(1184, b"\0"), self.get("runtime"), kind=4)
            return PlatformReport(
                report=wrapped,
                quote=self.get("td_quote"),
                collateral=self.get("collateral_file"),
            )
        if self.kind not in SNP:
            return None
        return PlatformReport(report=self.get("hcl"), chip_certificate=self.get("vcek"))

    # GPUs: their properties, their answers, and their maker's collateral.

    def make_devices(self) -> list[dict[str, Any]]:
        return [nvidia_forge.device()]

    def make_gpu_nonce(self) -> bytes:
        name = tpm_forge.name_of(self.get("run_public"))
        return hashlib.sha256(b"aicert gpu v1\0" + self.get("nonce") + name).digest()

    def make_device_reports(self) -> tuple[DeviceReport, ...]:
        answers = [
            nvidia_forge.answer_of(one, self.get("gpu_nonce")) for one in self.get("devices")
        ]
        return tuple(DeviceReport(report=report, chain=chain) for report, chain in answers)

    def make_rims(self) -> list[bytes]:
        return nvidia_forge.rims()

    def make_answers(self) -> dict[int, bytes]:
        return nvidia_forge.answers()

    def make_gpu_collateral(self) -> bytes | None:
        return nvidia_forge.collateral(self.get("rims"), [*self.get("answers").values()])

    def make_gpus(self) -> Gpus | None:
        if self.kind != "gpu":
            return None
        collateral = self.get("gpu_collateral")
        return Gpus(devices=self.get("device_reports"), collateral=collateral)

    # The certificate, and what the verifier is given.

    def make_certificate(self) -> Certificate:
        return Certificate(
            envelope=Envelope(payload=self.get("payload"), signature=self.get("dsse"), keyid="k"),
            evidence=Evidence(
                nonce=self.get("nonce"),
                quote=Signed(
                    attest=self.get("quote_attest"), signature=self.get("quote_signature")
                ),
                pcrs=self.get("pcrs"),
                ak_chain=self.get("chain"),
                run_key=self.get("run_public"),
                run_key_certify=Signed(
                    attest=self.get("certify_attest"), signature=self.get("certify_signature")
                ),
                platform=self.get("platform"),
                gpus=self.get("gpus"),
            ),
            lockfile=self.get("lockfile_bytes"),
            image_lock=self.get("image_lock"),
            version=self.version,
        )

    def make_file(self) -> bytes:
        return certificates.emit(self.get("certificate"))

    def make_policy(self) -> Policy:
        platform = Root(
            name=self.ca_name, der=self.get("root"), tier=self.tier, simulated=self.driver
        )
        if self.kind == "local":
            return Policy(name="test", tier="software", roots=(platform,), images={})
        lock = image_lock.parse(
            image_lock.emit(
                name="machine", disk=Digest("sha256", "ef" * 32), pcrs=BOOT, verity=VERITY
            )
        )
        return Policy(
            name="test",
            tier=self.tier,
            roots=(platform,),
            accepted=frozenset((lock.digest,)),
            images={},
            firmware=(Firmware(name="test firmware", pcrs=FIRMWARE),),
            chips=chip_forge.makers() if self.kind in SNP else (),
            id_key_signers=(chip_forge.PARAVISOR,) if self.kind in SNP else (),
            td_roots=(td_forge.maker(),) if self.kind in TDS else (),
            tds=(td_forge.PARAVISOR, td_forge.BARE) if self.kind in TDS else (),
            gpus=(nvidia_forge.maker(),) if self.kind == "gpu" else (),
        )

    def make_model(self) -> dict[str, FileFact]:
        outputs: Mapping[str, Mapping[str, bytes]] = self.get("outputs")
        files = next(iter(outputs.values()))
        return {path: FileFact(len(data), hex_of(data)) for path, data in files.items()}

    def appraise(self) -> AttestationResult:
        """Parse the certificate file and appraise it; malformed files raise EvidenceError."""
        return appraise(
            certificates.parse(self.get("file")),
            self.get("model") if self.with_model else None,
            self.get("policy"),
            at=self.at,
            lockfile=self.caller_lockfile,
            nonce=self.caller_nonce,
            ancestors=self.ancestors,
            audits=self.audits,
        )

    # Edits that several attacks share.

    def edit_json(self, change: Callable[[Any], None]) -> "Scene":
        """Change the statement's JSON; the changed JSON is signed and quoted."""

        def edited(payload: bytes) -> bytes:
            document = json.loads(payload)
            change(document)
            return json.dumps(document).encode()

        return self.edit("payload", edited)

    def edit_certificate(self, **changes: Any) -> "Scene":
        return self.edit("certificate", lambda certificate: replace(certificate, **changes))

    def edit_evidence(self, **changes: Any) -> "Scene":
        return self.edit(
            "certificate", lambda c: replace(c, evidence=replace(c.evidence, **changes))
        )

    def edit_inputs(self, change: Callable[[list[bytes]], list[bytes]]) -> "Scene":
        return self.edit("input_events", change)

    def set_pcr(self, index: int, value: bytes) -> "Scene":
        return self.edit("pcrs", lambda pcrs: pcrs | {index: value})


__all__ = ["AT", "FILES", "NONCE", "Scene", "ca_forge", "chip_forge", "hex_of", "tpm_forge"]
