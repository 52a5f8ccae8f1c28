"""The vectors of leases: up to date, judged as expected, and computed again from the TPM standard.

The second computation is written from TPM 2.0 Part 2 and 3 with `struct`, and shares no code.
"""

import hashlib
import json
import ssl
import struct
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawing
from hypothesis import settings
from hypothesis import strategies as st

from aicert.appraisal.ak_chain import Root
from aicert.appraisal.appraise import appraise
from aicert.appraisal.policy import Firmware, Policy
from aicert.errors import AicertError, EvidenceError
from aicert.formats import certificate as certificates
from aicert.formats.digest import Digest, of_bytes
from aicert.frozen import replace
from aicert.lease import answer_receipts, enrolment, keys, licence, orders, receipts, serving, terms
from aicert.lease.checks import RefusedError
from aicert.lease.receipts import Heartbeat, Receipt, Usage
from aicert.leasing import enrolments
from aicert.leasing import serving as judging
from aicert.leasing.serving import Channel
from aicert.serving.connections import Exchange, check_receipt
from tests.adversarial.forger import Scene
from tests.second import answers as second_answers
from tests.second.chain import NoError
from tests.vectors import leases

PATHS = sorted(leases.FOLDER.glob("*.json"))
# TPMA_NV of a counter: written, no DA, auth read, owner read, counter, auth write, owner write.
COUNTER = 0x22060016
HONEST = Scene()
CONSISTENT = appraise(
    certificates.parse(HONEST.get("file")), None, HONEST.get("policy"), at=HONEST.at
)


def test_regenerated_vectors_are_the_same_bytes() -> None:
    assert {path.name: path.read_bytes() for path in PATHS} == leases.files(), (
        "python -m tests.vectors.leases"
    )


def of_kind(kind: str) -> list[Any]:
    documents = [(path.stem, json.loads(path.read_bytes())) for path in PATHS]
    return [pytest.param(one, id=name) for name, one in documents if one["kind"] == kind]


@pytest.mark.parametrize("vector", of_kind("terms"))
def test_terms_are_read_as_the_vector_says(vector: dict[str, Any]) -> None:
    data, expected = vector["inputs"]["text"].encode(), vector["expected"]
    if expected["verdict"] == "malformed":
        with pytest.raises(AicertError):
            terms.parse(data)
        return
    read = terms.parse(data)
    assert terms.emit(read) == data
    assert str(read.digest) == expected["digest"]
    assert expected["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("vector", of_kind("licence"))
def test_a_licence_is_judged_as_the_vector_says(vector: dict[str, Any]) -> None:
    given, expected = vector["inputs"], vector["expected"]
    data, values = given["text"].encode(), registers(given)
    custodian = keys.load_public(bytes.fromhex(given["custodian"]))
    if expected["verdict"] == "malformed":
        with pytest.raises(EvidenceError):
            licence.parse(data)
        return
    read = licence.parse(data)
    assert licence.emit(read) == data
    if expected["verdict"] == "refused":
        with pytest.raises(EvidenceError, match="not signed by this custodian for a machine"):
            licence.verify(read, custodian, values)
    else:
        assert licence.verify(read, custodian, values).hex() == expected["policyDigest"]


@pytest.mark.parametrize("vector", of_kind("licence"))
def test_every_digest_follows_from_the_tpms_books(vector: dict[str, Any]) -> None:
    given, expected = vector["inputs"], vector["expected"]
    if expected["verdict"] == "malformed":
        return
    assert digests(given["text"], registers(given), given["custodian"]) == {
        name: value for name, value in expected.items() if name != "verdict"
    }


def registers(given: dict[str, Any]) -> dict[int, bytes]:
    return {int(index): bytes.fromhex(value) for index, value in given["registers"].items()}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def pcr_term(digest: bytes, values: dict[int, bytes]) -> bytes:
    bitmap = bytearray(3)
    for index in values:
        bitmap[index // 8] |= 1 << index % 8
    selection = struct.pack(">IHB", 1, 0x000B, 3) + bitmap
    concatenated = b"".join(value for _, value in sorted(values.items()))
    return sha256(digest + struct.pack(">I", 0x17F) + selection + sha256(concatenated))


def digests(text: str, values: dict[int, bytes], spki: str) -> dict[str, str]:
    fact = dict(line.split(" ", 1) for line in text.splitlines())
    names = [
        b"\x00\x0b" + sha256(struct.pack(">IHIHH", index, 0x000B, COUNTER, 0, 8))
        for index in (0x01800010, 0x01800011)
    ]
    digest = pcr_term(bytes(32), values)
    for name, number, operation in ((names[0], "budget", 5), (names[1], "epoch", 0)):
        arguments = sha256(struct.pack(">QHH", int(fact[number]), 0, operation))
        digest = sha256(digest + struct.pack(">I", 0x149) + arguments + name)
    for form, number, offset, operation in (
        (">QHH", "clock", 8, 5),
        (">IHH", "resets", 16, 9),
        (">IHH", "restarts", 20, 9),
    ):
        arguments = sha256(struct.pack(form, int(fact[number]), offset, operation))
        digest = sha256(digest + struct.pack(">I", 0x16D) + arguments)
    digest = sha256(digest + struct.pack(">II", 0x16C, 0x15E))
    # The point is the end of a SubjectPublicKeyInfo: x and y, 32 octets each.
    point = bytes.fromhex(spki)[-64:]
    public = struct.pack(">HHIHHHHH", 0x0023, 0x000B, 0x00040040, 0, 0x0010, 0x0010, 3, 0x0010)
    public += struct.pack(">H32sH32s", 32, point[:32], 32, point[32:])
    key_name = b"\x00\x0b" + sha256(public)
    reference = sha256(
        b"aicert lease 1\0"
        + bytes.fromhex(fact["lease"])
        + bytes.fromhex(fact["terms"].removeprefix("sha256:"))
        + bytes.fromhex(fact["machine"])
    )
    by_key = sha256(bytes(32) + struct.pack(">I", 0x16A) + key_name)
    while_serving = {index: value for index, value in values.items() if index != 14}
    return {
        "policyDigest": digest.hex(),
        "policyRef": reference.hex(),
        "custodianName": key_name.hex(),
        "authPolicy": sha256(by_key + reference).hex(),
        "receiptPolicy": pcr_term(bytes(32), while_serving).hex(),
        "meterName": names[0].hex(),
        "epochName": names[1].hex(),
    }


@pytest.mark.parametrize("vector", [*of_kind("enrolment"), *of_kind("serving")])
def test_a_machine_is_judged_as_the_vector_says(vector: dict[str, Any]) -> None:
    given, expected = vector["inputs"], vector["expected"]
    assert refusal(lambda: judge(vector["kind"], given)) == expected.get("check")


def judge(kind: str, given: dict[str, Any]) -> None:
    agreed = terms.parse(given["terms"].encode())
    rules = policy(given)
    nonce, text = bytes.fromhex(given["nonce"]), given["text"].encode()
    at = datetime.fromisoformat(given["at"])
    if kind == "enrolment":
        enrolments.appraise(enrolment.parse(text), agreed, rules, at=at, nonce=nonce)
        return
    channel = Channel(
        nonce=nonce, spki=bytes.fromhex(given["spki"]), exporter=bytes.fromhex(given["exporter"])
    )
    # Of a certificate, only the model's digest matters here.
    certified = replace(CONSISTENT, subject={"model": str(agreed.model)})
    judging.appraise(
        serving.parse(text), channel, rules, lease=agreed.lease, certified=certified, at=at
    )


def policy(given: dict[str, Any]) -> Policy:
    """Return the policy of the vector: one root, one image, one firmware."""
    der = ssl.PEM_cert_to_DER_cert(given["root"])
    root = Root(name="root", der=der, tier="measured-vm", simulated="qemu")
    pcrs = {index: bytes.fromhex(given["image"][f"pcr{index}"]) for index in (4, 11)}
    image = replace(leases.IMAGE, pcrs={**leases.IMAGE.pcrs, **pcrs})
    firmware = {int(index): bytes.fromhex(value) for index, value in given["firmware"].items()}
    return Policy(
        name="vector", tier="measured-vm", roots=(root,), accepted=frozenset((image.digest,)),
        images={image.digest: image}, firmware=(Firmware(name="firmware", pcrs=firmware),),
    )  # fmt: skip


def refusal(judge: Callable[[], object]) -> str | None:
    """Return the check that refuses, None if none does."""
    try:
        judge()
    except RefusedError as error:
        return error.check
    return None


@pytest.mark.parametrize("vector", of_kind("receipt"))
def test_a_receipt_is_judged_as_the_vector_says(vector: dict[str, Any]) -> None:
    given, expected = vector["inputs"], vector["expected"]
    receipt = receipts.parse(given["text"].encode())
    values = licence.registers(leases.FIRMWARE, leases.IMAGE)
    key = receipts.check_receipt_key(bytes.fromhex(given["receiptKey"]), values)
    read = []
    check = refusal(lambda: read.append(receipts.verify(receipt, key, licence.METER_INDEX)))
    assert check == expected.get("check")
    assert [one.value for one in read] == ([expected["meter"]] if check is None else [])


@pytest.mark.parametrize("vector", of_kind("order"))
def test_an_order_is_judged_as_the_vector_says(vector: dict[str, Any]) -> None:
    """Only the signature is checked here; the machine compares what the order answers."""
    given, expected = vector["inputs"], vector["expected"]
    signed = orders.parse(given["text"].encode())
    order = orders.parse_order(signed.order)
    custodian = keys.load_public(bytes.fromhex(given["custodian"]))
    heartbeat = Heartbeat(
        lease=order.lease, seq=order.seq, previous="0" * 64, nonce="0" * 64, boot=order.boot,
        usage=Usage(),
    )  # fmt: skip
    check = refusal(
        lambda: orders.accept(
            signed, custodian, receipt=Receipt(body=b"", attest=b"", signature=b""),
            heartbeat=heartbeat, terms=order.terms,
            epoch=order.epoch, generation=0,
        )
    )  # fmt: skip
    # The custodian signed it, but it does not answer that body.
    assert check == expected.get("check", "order.answer")
    assert expected.get("order", order.kind) == order.kind


def answered(given: dict[str, str]) -> str:
    """Return a client's verdict on a receipt: ok, malformed or the check that refuses."""
    exchange = Exchange(
        spki=bytes.fromhex(given["spki"]), nonce=given["nonce"],
        evidence=Digest("sha256", given["evidence"]), terms=terms.parse(given["terms"].encode()),
        request=of_bytes(given["request"].encode()), response=of_bytes(given["response"].encode()),
    )  # fmt: skip
    try:
        check_receipt(answer_receipts.from_text(given["text"]), exchange)
    except RefusedError as error:
        return error.check
    except EvidenceError:
        return "malformed"
    return "ok"


def answered_by_the_second(given: dict[str, str]) -> tuple[str, dict[int, Any]]:
    try:
        return "ok", second_answers.judge(given)
    except second_answers.FormError:
        return "malformed", {}
    except NoError as error:
        return str(error), {}


@pytest.mark.parametrize("vector", of_kind("answer"))
def test_a_receipt_of_an_answer_is_judged_as_the_vector_says(vector: dict[str, Any]) -> None:
    given, expected = vector["inputs"], vector["expected"]
    verdict = expected.get("check", expected["verdict"])
    second, claims = answered_by_the_second(given)
    assert (answered(given), second) == (verdict, verdict)
    if verdict == "ok":
        assert claims[-70002] == expected["tokensIn"]
        assert claims[-70003] == expected["tokensOut"]
        assert claims[-65545] == expected["number"]


@settings(deadline=None)
@drawing(st.data())
def test_both_readers_say_the_same_of_a_receipt_with_changed_octets(drawn: st.DataObject) -> None:
    """The readers may name different reasons first; they agree on whether it is this answer's."""
    vector = json.loads((leases.FOLDER / "answer.json").read_bytes())["inputs"]
    token = bytearray(answer_receipts.from_text(vector["text"]))
    for _ in range(drawn.draw(st.integers(0, 2))):
        token[drawn.draw(st.integers(0, len(token) - 1))] = drawn.draw(st.integers(0, 255))
    given = vector | {"text": answer_receipts.to_text(bytes(token))}
    both = answered(given) == "ok", answered_by_the_second(given)[0] == "ok"
    assert both[0] is both[1] is (given["text"] == vector["text"])


def test_the_folder_holds_nothing_else() -> None:
    names = {path.name for path in Path(leases.FOLDER).iterdir()}
    assert names == set(leases.files())
