"""A lease from certificate to kill receipt, on a real software TPM whose platform is simulated.

The custodian types `aicert lease`. The machine is `lease_machine`, which has no image: nothing
measures a boot here, so only a policy for simulated platforms accepts it.
"""

import hashlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.cli import main
from aicert.lease import (
    blob,
    bundle,
    custody,
    enrolment,
    keys,
    licence,
    orders,
    receipts,
    terms,
    tpm_policy,
)
from aicert.lease.bundle import ContentKey
from aicert.lease.orders import Order
from aicert.lease.receipts import Heartbeat, Receipt, Usage
from aicert.lease.terms import Terms
from enclave_runner.attester.tpm import Tpm
from rules.machines.ca import Ca
from tests.adversarial.forger import Scene
from tests.e2e.lease import lease_machine as machine
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.signing_keys import Printed

# No boot is measured, so every register is zero.
ZERO = dict.fromkeys(licence.LICENCE_PCRS, bytes(32))
METER, EPOCH = machine.COUNTERS
NONCE = hashlib.sha256(b"the custodian's challenge").digest()
BOOT = "b0" * 32


@pytest.fixture
def folder(tmp_path: Path, ca: Ca) -> Path:
    (tmp_path / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    return lay_out(Scene(), tmp_path)


def pack(folder: Path, *more: str) -> Terms:
    words = ["lease", "pack", str(folder / "c.json"), str(folder / "model")]
    words += ["-o", str(folder / "bot"), "--policy", "local", "--at", AT]
    assert main.main([*words, "--root", str(folder / "root.pem"), *more]) == 0
    return terms.parse((folder / "bot/terms.toml").read_bytes())


def judged(folder: Path, *words: str) -> int:
    more = ["--lease", str(folder / "bot"), "--policy", "local"]
    return main.main(["lease", *words, *more, "--root", str(folder / "platform.pem")])


def enrol(tpm: Tpm, folder: Path, agreed: Terms) -> None:
    machine.make_counters(tpm)
    machine.make_storage_key(tpm)
    shown = machine.enrol(tpm, agreed, NONCE, ZERO)
    (folder / "enrolment.json").write_bytes(enrolment.emit(shown))


def issue(folder: Path, *more: str) -> int:
    words = ["issue", str(folder / "enrolment.json"), "-o", str(folder / "issued")]
    words += ["--budget", "10k", "--until", "1h", "--nonce", NONCE.hex()]
    return judged(folder, *words, *more)


def half_of(tpm: Tpm, folder: Path) -> bytes:
    """Return the half of the content key that the TPM gives to the machine with the issued
    licence.
    """
    given = licence.parse((folder / "issued/licence").read_bytes())
    wrapped = blob.parse((folder / "issued/blob").read_bytes())
    custodian = keys.load_public((folder / "bot/custodian.der").read_bytes())
    return machine.open_lease(tpm, wrapped, given, custodian, registers=ZERO)


def unpacked(folder: Path, half: bytes, broker: bytes) -> dict[str, bytes]:
    data = (folder / "bot/header.json").read_bytes()
    header, key = bundle.parse(data), ContentKey(half, broker, data)
    bundle.check_terms(header, terms.parse((folder / "bot/terms.toml").read_bytes()))
    files = {}
    for at, file in enumerate(header.files):
        plain = bytearray()
        sealed = (folder / "bot/data" / str(at)).read_bytes()
        bundle.decrypt_file(key, at, file, [sealed], plain.extend)
        files[file.path] = bytes(plain)
    return files


def model(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "model").iterdir()}


def test_a_lease_from_certificate_to_kill_receipt(
    folder: Path, power: BorrowersTpm, printed: Printed
) -> None:
    agreed = pack(folder)
    kept = custody.parse((folder / "bot.keys").read_bytes())
    lines: list[bytes] = []

    def sent(tpm: Tpm, index: int, body: bytes) -> Receipt:
        receipt = machine.receipt(tpm, index, body, ZERO)
        lines.append(receipts.emit(receipt) + b"\n")
        return receipt

    with power.on() as tpm:
        enrol(tpm, folder, agreed)
        assert issue(folder) == 0
        assert half_of(tpm, folder) == kept.tpm_half
        assert unpacked(folder, kept.tpm_half, kept.broker_half) == model(folder)
        # The machine pays before it serves.
        tpm.extend(licence.SERVING_PCR, b"serving\n")
        machine.refused(tpm, lambda: half_of(tpm, folder))
        machine.increment(tpm, METER)
        usage = Usage(tokens_in=700, tokens_out=200, requests=1, ticks=1)
        first = Heartbeat(
            lease=agreed.lease, seq=1, previous=agreed.digest.hex, nonce="0f" * 32, boot=BOOT,
            usage=usage,
        )  # fmt: skip
        body = receipts.emit_heartbeat(first)
        receipt = sent(tpm, METER, body)
        order = Order(
            kind=orders.REVOKE, lease=agreed.lease, terms=agreed.digest, boot=BOOT,
            epoch=machine.count(tpm, EPOCH), seq=1, answers=receipts.digest(receipt).hex,
            generation=1,
        )  # fmt: skip
        signed = orders.sign(kept.key, order)
        obeyed = orders.accept(
            signed, kept.key.public_key(), receipt=receipt, heartbeat=first, terms=agreed.digest,
            epoch=machine.count(tpm, EPOCH), generation=0,
        )  # fmt: skip
        assert obeyed.kind == orders.REVOKE
        machine.increment(tpm, EPOCH)
        sent(tpm, EPOCH, signed.order)
        tpm.extend(licence.STOPPED_PCR, b"stopped revoked\n")
    with power.on() as tpm:
        # The issued licence opens nothing any more, in whichever boot.
        machine.refused(tpm, lambda: half_of(tpm, folder))
    (folder / "receipts.jsonl").write_bytes(b"".join(lines))
    printed()
    words = ["receipts", str(folder / "receipts.jsonl"), "--enrolment"]
    assert judged(folder, *words, str(folder / "enrolment.json")) == 0
    text = printed()[0]
    assert "\ntokens    700 in, 200 out, 0 refused, of 1 request\n" in text
    assert "\nended     by order revoke: the epoch is " in text


def test_an_offline_lease_opens_without_a_broker(folder: Path, power: BorrowersTpm) -> None:
    agreed = pack(folder, "--offline")
    with power.on() as tpm:
        enrol(tpm, folder, agreed)
        assert issue(folder, "--offline") == 0
        assert unpacked(folder, half_of(tpm, folder), bundle.NO_BROKER) == model(folder)


def test_enrol_counters_that_are_none(folder: Path, power: BorrowersTpm, printed: Printed) -> None:
    agreed = pack(folder)
    with power.on() as tpm:
        machine.make_counters(tpm)
        machine.make_storage_key(tpm)
        machine.remove_counter(tpm, METER)
        plain = tpm_policy.COUNTER_ATTRIBUTES & ~0x10
        machine.ask(tpm, lambda esapi: machine.define_counter(esapi, METER, plain))
        shown = machine.enrol(tpm, agreed, NONCE, ZERO)
        (folder / "enrolment.json").write_bytes(enrolment.emit(shown))
    assert issue(folder) == 1
    assert "error: enrol.counters: receipt.index: " in printed()[1]


def test_enrol_registers_of_a_machine_that_serves(
    folder: Path, power: BorrowersTpm, printed: Printed
) -> None:
    agreed = pack(folder)
    with power.on() as tpm:
        tpm.extend(licence.SERVING_PCR, b"serving\n")
        enrol(tpm, folder, agreed)
    assert issue(folder) == 1
    assert "error: enrol.registers: PCR 14 is not zero" in printed()[1]
    assert not os.path.exists(folder / "issued")
