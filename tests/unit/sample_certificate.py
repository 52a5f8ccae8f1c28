"""Certificates as files, for tests of what is computed from one: nothing in them is signed."""

from collections.abc import Mapping

from aicert.formats import certificate as certificates
from aicert.formats import lockfile as lockfiles
from aicert.formats import run_report
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate, Evidence, Signed
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.dsse import Envelope
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.formats.run_report import RunReport, Value
from aicert.formats.run_report_facts import Loss, Records
from aicert.formats.statement import Dependency, Output, Statement

# TPMT_PUBLIC of a P-256 signing key: algorithms and attributes, then the curve's base point.
_HEAD = bytes.fromhex("0023000b00048472" + "0000" + "0010" + "0018000b" + "0003" + "0010")
_X = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
_Y = bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
PUBLIC = _HEAD + b"\0\x20" + _X + b"\0\x20" + _Y

FILES = {"config.json": "11" * 32, "sub/model.safetensors": "22" * 32}
SOURCES = {
    "alpaca": "hf:datasets/org/alpaca@" + "a" * 40,
    "config": "path:examples/c.yml",
    "model": "hf:org/base-7b@" + "b" * 40,
}


RECORDS = (
    Records(
        name="alpaca",
        split="train",
        rows=256,
        bytes=48_211,
        digest=Digest("sha256", "88" * 32),
        unread_bytes=0,
        files=("train.jsonl",),
    ),
)
LOSS = Loss(state="measured", before=6.0, after=2.25, rows=64, tokens=800, template_tokens=80)


def sample(
    *,
    sources: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    values: Mapping[str, Value] | None = None,
    exit_code: str = "0",
    image: bytes | None = None,
) -> bytes:
    """Return a certificate file whose fields agree with each other."""
    inputs = tuple(_input(name, uri) for name, uri in sorted((sources or SOURCES).items()))
    lockfile = lockfiles.emit(
        Lockfile(run="tiny", trainer="axolotl", outputs=("model",), inputs=inputs)
    )
    model_files = FILES if files is None else files
    report = RunReport(
        exit_code=exit_code,
        records=RECORDS if exit_code == "0" else (),
        loss=LOSS if exit_code == "0" else None,
        texts=(("chat template", Digest("sha256", "77" * 32)),),
        removed=("model/config.json: name_or_path",),
        values={
            "losses": Value("self-reported", (3.0, 2.5, 2.0)),
            "lossSteps": Value("self-reported", (1, 2, 3)),
            "steps": Value("self-reported", 3),
            "tokens": Value("self-reported", 300),
            "trainSeconds": Value("self-reported", 1.5),
            "torchVersion": Value("measured", "2.13.0+cpu"),
            "kernel": Value("measured", "6.12"),
        }
        | dict(values or {}),
    )
    statement = Statement(
        run="tiny",
        trainer="axolotl",
        lockfile=of_bytes(lockfile),
        dependencies=tuple(Dependency(name=i.name, uri=i.uri, digest=i.digest) for i in inputs),
        outputs={"model": Output(digest=dir_digest(model_files), files=model_files)},
        builder_id="urn:aicert:machine:local",
        builder={"runner": Digest("dirHash", "33" * 32)},
        nonce=b"\x44" * 32,
        started="2026-08-21T09:14:07Z",
        finished="2026-08-21T09:31:40Z",
        report=run_report.emit(report),
        log=Digest("sha256", "55" * 32),
    )
    signed = Signed(attest=b"a", signature=b"s")
    return certificates.emit(
        Certificate(
            envelope=Envelope(payload=statements.emit(statement), signature=b"s", keyid="00"),
            evidence=Evidence(
                nonce=b"\x44" * 32,
                quote=signed,
                pcrs=dict.fromkeys(range(16), b"\x00" * 32),
                ak_chain=(b"c",),
                run_key=PUBLIC,
                run_key_certify=signed,
            ),
            lockfile=lockfile,
            image_lock=image,
        )
    )


def _input(name: str, uri: str) -> LockedInput:
    kind = "sha256" if name == "config" else "dirHash"
    return LockedInput(
        name=name, source=uri, uri=uri, size=10, digest=Digest.parse(f"{kind}:{'66' * 32}")
    )
