"""Seeds of every target, from our own emitters and the Forger: `python -m tests.fuzz.seeds DIR`.

Each seed is a whole, valid input, so that its mutations reach deep into the parser.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from aicert.formats import (
    digest,
    evaluated_tasks,
    evaluation,
    image_lock,
    lockfile,
    run_report,
    strict_json,
)
from aicert.formats import listing as listings
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.formats.run_report import Override, RunReport, Value
from aicert.formats.run_report_facts import Loss, Records
from aicert.lease import blob, courier, enrolment, licence, orders, receipts, serving, terms
from aicert.lease.courier import Message
from aicert.model_signature import writer
from enclave_runner.inputs import model_json
from tests.adversarial import (
    attacks_evaluations,
    attacks_tasks,
    chip_forge,
    enrolment_forge,
    nvidia_forge,
    serving_forge,
    td_forge,
    tpm_forge,
)
from tests.adversarial.attacks_time import accuracy
from tests.adversarial.ca_forge import ec_key, rsa_key
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import Token
from tests.fuzz import audit_targets, event_logs, log_targets, row_targets
from tests.unit import gguf_files
from tests.unit.aicert.lease import forge
from tests.vectors import leases

POLICY = b"""\
name = "team"
extends = "default"
tier = "vtpm"
max-age-days = 90

[images]
accepted = ["sha256:%s"]

[[firmware]]
name = "machine room"
%s

[[claim]]
name = "totalFlops"
at-most = 1e25
origins = ["measured", "derived"]
"""


AUDITS = b"""\
tier = "software"
[[audit]]
kind = "domains/v1"
column = "url"
list = "sha256:%b"
missing = 2
unread-bytes = 9
[[audit]]
kind = "patterns/v1"
at-most = 1
texts = ["sha256:%b"]
""" % (b"a1" * 32, b"b2" * 32)
CONFIDENTIAL = b"""\
extends = "confidential"

[[chip]]
name = "amd-milan"
minimum-tcb = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }

[[launch]]
name = "ours"
id-key = "%s"
minimum-svn = 1
""" % (b"ab" * 48)


# A GPU that uses switches, according to both fields.
SWITCHED = dict(nvidia_forge.FIELDS) | {21: b"\xaa", 22: nvidia_forge.LINKS, 36: b"\2\0"}


@cache
def seeds() -> dict[str, tuple[bytes, ...]]:
    """Return `{target: inputs}`."""
    local, cloud, confidential = Scene("local"), Scene("cloud"), Scene("confidential")
    newer = Scene("local", 2)
    td, bare, gpu = Scene("azure td"), Scene("bare td"), Scene("gpu")
    longer = Scene("azure td").edit("td", lambda one: one | {"version": 5, "body_kind": 3})
    public = local.get("run_public")
    signed = writer.statement("model", {"a/b": _sha256("b"), "c": _sha256("c")}, (".git",))
    return {
        **audit_targets.seeds(),
        **log_targets.seeds(),
        "blob": (blob.emit(leases.BLOB),),
        "certificate": (
            local.get("file"),
            cloud.get("file"),
            confidential.get("file"),
            newer.get("file"),
            td.get("file"),
            bare.get("file"),
            gpu.get("file"),
        ),
        "bundle": (
            writer.bundle(signed, b"signature", {"publicKey": {"hint": _sha256("key")}}),
            writer.bundle(signed, b"signature", writer.certificate_material((b"leaf", b"root"))),
        ),
        "certify": (local.get("certify_attest"),),
        "chip": (chip_forge.vcek(), chip_forge.vcek(serial=5)),
        "counter": (
            tpm_forge.attest(
                body=tpm_forge.counter_body(tpm_forge.name_of(b"index"), 812),
                kind=tpm_forge.NV,
                extra=b"extra",
            ),
        ),
        "dsse": (strict_json.dumps(local.get("certificate").envelope.to_json()),),
        "event-log": (event_logs.machine(), event_logs.legacy(0, 8, bytes(20), b"version")),
        "courier": (
            courier.emit(Message(kind=courier.HEARTBEAT, data=bytes(32))),
            courier.emit(Message(kind=courier.SERVING, numbers=(("port", 8443),))),
        ),
        "gpu-answer": (
            *gpu.get("answers").values(),
            nvidia_forge.answer(5, revoked=6),
        ),
        "gpu-collateral": (gpu.get("gpu_collateral"),),
        "gpu-report": (
            gpu.get("device_reports")[0].report,
            nvidia_forge.report(fields=nvidia_forge.fields_of(SWITCHED)),
        ),
        "gpu-rim": tuple(gpu.get("rims")),
        "custody": (leases.custody_file(),),
        "enrolment": (enrolment.emit(enrolment_forge.Scene().signed()),),
        "header": (leases.bundle_header(),),
        "heartbeat": (
            receipts.emit_heartbeat(forge.heartbeat()),
            receipts.emit_heartbeat(forge.heartbeat(half_for="ab" * 32)),
        ),
        "order": tuple(map(orders.emit_order, leases.orders_of_each_kind())),
        "serving": (serving.emit(serving_forge.Machine().signed()),),
        "serving-statement": (
            serving.emit_statement(serving_forge.statement(leases.agreed())),
            serving.emit_statement(serving_forge.statement(leases.agreed(), image=None)),
        ),
        "signed-order": tuple(
            orders.emit(orders.SignedOrder(order=orders.emit_order(one), signature=b"0\x06"))
            for one in leases.orders_of_each_kind()
        ),
        "image-lock": (_image_lock(), cloud.get("image_lock")),
        "evaluation": tuple(_evaluations()),
        "json": (b'{"a":[1,-2.5e3,true,null,"\\u00e9"],"b":{"c":{}}}', b"[[[[]]]]", b'"x"'),
        "licence": (
            licence.emit(leases.signed()),
            licence.emit(leases.signed(leases.BOUNDS, image=None)),
        ),
        "listing": (_listing(),),
        "lockfile": (_lockfile(), local.get("lockfile_bytes")),
        "platform-report": (confidential.get("hcl"), confidential.get("hcl").ljust(2600, b"\0")),
        "policy": (_policy(), CONFIDENTIAL, AUDITS, b'tier = "software"\n'),
        "manifest": (signed,),
        "model-json": tuple(_model_documents()),
        "public": (public, tpm_forge.rsa_public(rsa_key("ak").public_key())),
        "quote": (local.get("quote_attest"), cloud.get("quote_attest")),
        "receipt": (receipts.emit(forge.receipt(b"body")),),
        "report": (
            _report(),
            _report_2(),
            _report_unmeasured(),
            local.get("report_bytes"),
            newer.get("report_bytes"),
        ),
        **row_targets.seeds(Path(__file__).with_name("rows.parquet").read_bytes()),
        "runtime": (confidential.get("runtime"),),
        "gguf": (_gguf(),),
        "safetensors": (_safetensors(),),
        "signature": (
            local.get("quote_signature"),
            tpm_forge.sign(ec_key("ak"), b"signed"),
        ),
        "sgx-extension": (td_forge.sgx_extension(),),
        "td-collateral": (td.get("collateral_file"),),
        "td-quote": (td.get("td_quote"), longer.get("td_quote")),
        "statement": (local.get("payload"), cloud.get("payload")),
        "storage-key": (leases.STORAGE,),
        "terms": (terms.emit(leases.agreed()), terms.emit(leases.agreed(key=terms.TPM_ALONE))),
        "time-stamp": (
            Token(digest=bytes(32)).der(),
            Token(digest=bytes(32), key=rsa_key("time authority"), accuracy=accuracy(1, 5)).der(),
        ),
    }


def _evaluations() -> Iterator[bytes]:
    """Yield results of a loss, of tasks of each kind, and of a task of the image."""
    yield evaluation.emit(attacks_evaluations.measured())
    yield evaluated_tasks.emit(attacks_tasks.results(*attacks_tasks.TWO))
    yield evaluated_tasks.emit(attacks_tasks.addition(20))


def _model_documents() -> Iterator[bytes]:
    """Return one file of each kind, with an extra key where one is allowed."""
    documents = {
        "adapter": b'{"peft_type":"LORA","base_model_name_or_path":"x","target_modules":["a"]}',
        "config": b'{"_name_or_path":"/x","a":{"auto_map":{"b":"c"},"dtype":"auto"}}',
        "index": b'{"weight_map":{"a":"model.safetensors"},"metadata":{}}',
        "numbers": b'{"a":0}',
        "settings": b'{"b":[{"d_file":"vocab.txt"}],"chat_template":"{{ x }}"}',
        "special-tokens": b'{"unk_token":{"content":"/"},"bos_token":"~"}',
        "tekken": b'{"config":{"pattern":"/"},"vocab":[{"token_str":"/"}]}',
        "tokenizer": b'{"model":{"vocab":{"a":0},"merges":["a b"]}}',
    }
    for kind, text in documents.items():
        yield bytes((sorted(model_json.KINDS).index(kind),)) + text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _image_lock() -> bytes:
    packages = tuple(
        image_lock.Package(
            part="machine", name=name, version="1.0-1", digest=Digest("sha256", _sha256(name))
        )
        for name in ("libc6", "linux-image", "torch")
    )
    return image_lock.emit(
        name="machine",
        disk=Digest("sha256", _sha256("disk")),
        pcrs={index: bytes(32) for index in image_lock.PCRS},
        verity={"root": Digest("sha256", _sha256("root"))},
        packages=packages,
    )


def _listing() -> bytes:
    names = ("config.json", "a/b/c.txt", "a/é.txt", "z")
    return listings.listing({name: _sha256(name) for name in names})


def _lockfile() -> bytes:
    def locked(name: str, kind: digest.Kind, **facts: object) -> LockedInput:
        return LockedInput(
            name=name,
            source=f"path:{name}",
            uri=f"path:{name}",
            size=7,
            digest=Digest(kind, _sha256(name)),
            **facts,  # type: ignore[arg-type]  # the optional facts, as given below
        )

    return lockfile.emit(
        Lockfile(
            run="tiny",
            trainer="axolotl",
            outputs=("adapter", "model"),
            inputs=(
                locked("config", "sha256"),
                locked("data", "dirHash", only=("*.jsonl", "a/**"), except_=("b",)),
                locked("model", "dirHash", allow_pickle=True, signed_by=f"p256:02{_sha256('key')}"),
            ),
        )
    )


def _policy() -> bytes:
    pcrs = "\n".join(f'pcr{index} = "{_sha256(str(index))}"' for index in (0, 1, 2, 3, 7))
    return POLICY % (_sha256("image").encode(), pcrs.encode())


def _report() -> bytes:
    return run_report.emit(
        RunReport(
            exit_code="signal:9",
            values={
                "wallSeconds": Value("measured", 1.5),
                "steps": Value("self-reported", 40),
                "losses": Value("self-reported", (6.5, 5, 4.25)),
                "torch": Value("measured", "2.13.0"),
            },
            overrides=(Override(key="seed", configured="", used="42", why="repeatable"),),
            unchanged_weights=("model/model.safetensors",),
            version=1,
        )
    )


def _report_2() -> bytes:
    digest = Digest("sha256", _sha256("rows"))
    rows = Records(
        name="data",
        split="train",
        rows=3,
        bytes=99,
        digest=digest,
        unread_bytes=1,
        files=("a.jsonl", "b/c.parquet"),
    )
    return run_report.emit(
        RunReport(
            exit_code="0",
            values={
                "losses": Value("self-reported", (6.5, 5, 4.25)),
                "countedEpochs": Value("in-trainer", 2.5),
                "countedRows": Value("in-trainer", 640),
                "trainingRows": Value("in-trainer", 256),
                "countedSteps": Value("in-trainer", 80),
            },
            records=(rows, replace(rows, name="file", files=())),
            loss=Loss(state="measured", before=6.5, after=4.0, rows=2, tokens=30),
            texts=(("chat template", digest),),
            removed=("model/config.json: name_or_path",),
        )
    )


def _report_unmeasured() -> bytes:
    loss = Loss(state="incomplete", reason="no row is long enough")
    return run_report.emit(RunReport(exit_code="0", values={}, loss=loss))


def _gguf() -> bytes:
    keys = (
        gguf_files.key("general.architecture", gguf_files.STRING, "llama"),
        gguf_files.key("llama.rope.freq_base", 6, 1e4),
        gguf_files.array("tokenizer.ggml.tokens", gguf_files.STRING, ("<s>", "\u2581a")),
        gguf_files.array("tokenizer.ggml.token_type", 5, (3, 1)),
    )
    tensors = (("a", (32, 1), gguf_files.Q8_0, bytes(34)), ("b", (4,), gguf_files.F32, bytes(16)))
    return gguf_files.gguf(keys, tensors)


def _safetensors() -> bytes:
    tensors: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for dtype, shape, size in (("F32", [2, 3], 24), ("F4", [3, 2], 3), ("BF16", [], 2)):
        offsets = [end, end := end + size]
        tensors[f"layers.{dtype}"] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    header = json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + bytes(end)


def write(folder: Path) -> None:
    """Write one directory per target, as libFuzzer expects its corpus."""
    for target, inputs in seeds().items():
        place = folder / target
        place.mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (place / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
