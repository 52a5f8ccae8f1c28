"""Receipts of a real swtpm: what they prove, and how a ledger refuses restored or copied state."""

from collections.abc import Iterator

import pytest
import tpm2_pytss as tss

from aicert.errors import EvidenceError
from aicert.formats import tpm as formats
from aicert.lease import ledger as ledgers
from aicert.lease import licence, receipts
from aicert.lease.ledger import Ledger
from aicert.lease.receipts import Heartbeat, Receipt, ReceiptKey, Usage
from enclave_runner.attester.tpm import Tpm
from tests.e2e.lease import lease_machine as machine
from tests.e2e.lease.lease_tpm import BorrowersTpm, borrowers_tpm
from tests.vectors.leases import agreed

METER, EPOCH = machine.COUNTERS
NONCE = "0f" * 32


@pytest.fixture
def power() -> Iterator[BorrowersTpm]:
    with borrowers_tpm() as power:
        yield power


def enrolled(tpm: Tpm) -> tuple[ReceiptKey, Ledger]:
    machine.boot(tpm)
    machine.make_counters(tpm)
    key = receipts.check_receipt_key(machine.receipt_key(tpm), machine.REGISTERS)
    first = machine.receipt(tpm, METER, b"enrolment")
    return key, ledgers.opened(agreed(), receipts.verify(first, key, METER))


def beat(tpm: Tpm, ledger: Ledger, boot: str, usage: Usage) -> tuple[Receipt, Heartbeat]:
    """Return the machine's next heartbeat, which continues from `ledger`."""
    heartbeat = Heartbeat(
        lease=agreed().lease, seq=ledger.seq + 1, previous=ledger.head, nonce=NONCE, boot=boot * 64,
        usage=usage,
    )  # fmt: skip
    return machine.receipt(tpm, METER, receipts.emit_heartbeat(heartbeat)), heartbeat


def taken(ledger: Ledger, key: ReceiptKey, sent: tuple[Receipt, Heartbeat]) -> Ledger:
    receipt, heartbeat = sent
    read = receipts.parse(receipts.emit(receipt))
    reading = receipts.verify(read, key, METER)
    assert receipts.parse_heartbeat(read.body) == heartbeat
    return ledgers.after(ledger, read, heartbeat, reading, NONCE)


def test_a_story_of_two_boots_adds_up(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        key, ledger = enrolled(tpm)
        machine.increment(tpm, METER)
        usage = Usage(tokens_in=600, tokens_out=400, requests=1, ticks=1)
        # The receipt is made while the machine serves, which PCR 14 shows.
        tpm.extend(licence.SERVING_PCR, b"serving\n")
        ledger = taken(ledger, key, beat(tpm, ledger, "a", usage))
    with power.on() as tpm:
        machine.boot(tpm)
        machine.increment(tpm, METER)
        ledger = taken(ledger, key, beat(tpm, ledger, "b", Usage(tokens_in=10, ticks=1)))
    assert ledger.total == Usage(tokens_in=610, tokens_out=400, requests=1, ticks=2)
    assert (ledger.seq, ledger.boot) == (2, "b" * 64)


def test_receipt_signature_of_another_image_or_after_a_stop(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        enrolled(tpm)
        tpm.extend(licence.STOPPED_PCR, b"stopped revoked\n")
        why = machine.refused(tpm, lambda: machine.receipt(tpm, METER, b"body"))
        assert why == tss.TPM2_RC.POLICY_FAIL
    with power.on() as tpm:
        machine.boot(tpm, {**machine.BOOT, 11: b"another image"})
        why = machine.refused(tpm, lambda: machine.receipt(tpm, METER, b"body"))
        assert why == tss.TPM2_RC.POLICY_FAIL


def test_receipt_index_of_another_counter(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        key, _ = enrolled(tpm)
        receipt = machine.receipt(tpm, EPOCH, b"body")
        with pytest.raises(EvidenceError, match=r"^receipt\.index"):
            receipts.verify(receipt, key, METER)
        # A kill receipt is about the epoch counter.
        assert receipts.verify(receipt, key, EPOCH).value == machine.count(tpm, EPOCH)


def test_the_clock_that_a_receipt_shows_is_the_tpms_own(power: BorrowersTpm) -> None:
    """Keys of the endorsement hierarchy show the real reset count; for other keys the TPM
    obfuscates it.
    """
    with power.on() as tpm:
        key, ledger = enrolled(tpm)
        assert ledger.resets == machine.now(tpm).resetCount
        name = formats.qualified_name_of_primary(0x4000000B, key.name)
        assert key.qualified_name == name


def test_receipt_boot_refuses_a_tpm_that_was_resumed(power: BorrowersTpm) -> None:
    """After a resume, any system has the registers of a good boot, and the policy is satisfied
    again.
    """
    with power.on(end=tss.TPM2_SU.STATE) as tpm:
        key, _ = enrolled(tpm)
        receipts.verify(machine.receipt(tpm, METER, b"body"), key, METER)
    with power.on("startup-state") as tpm:
        # Nothing booted, and yet the TPM signs.
        forged = machine.receipt(tpm, METER, b"body")
        with pytest.raises(EvidenceError, match=r"^receipt\.boot: the TPM was resumed"):
            receipts.verify(forged, key, METER)


def test_ledger_meter_refuses_state_that_was_put_back(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        key, ledger = enrolled(tpm)
    power.keep("old")
    with power.on() as tpm:
        machine.boot(tpm)
        before = ledger
        for _ in range(3):
            machine.increment(tpm, METER)
        ledger = taken(ledger, key, beat(tpm, ledger, "a", Usage(tokens_in=3000, ticks=3)))
    power.put_back("old")
    with power.on() as tpm:
        machine.boot(tpm)
        machine.increment(tpm, METER)
        # A machine that runs from old state only knows the old receipts.
        with pytest.raises(EvidenceError, match=r"^ledger\.successor"):
            taken(ledger, key, beat(tpm, before, "b", Usage()))
        # If the borrower gives it the later receipts, its meter reveals the old state.
        with pytest.raises(EvidenceError, match=r"^ledger\.meter"):
            taken(ledger, key, beat(tpm, ledger, "b", Usage()))


def test_ledger_successor_refuses_state_that_runs_twice(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        key, ledger = enrolled(tpm)
    power.keep("copy")
    with power.on() as tpm:
        machine.boot(tpm)
        first = beat(tpm, ledger, "a", Usage())
    power.put_back("copy")
    with power.on() as tpm:
        machine.boot(tpm)
        second = beat(tpm, ledger, "b", Usage())
    taken(ledger, key, second)
    with pytest.raises(EvidenceError, match=r"^ledger\.successor"):
        taken(taken(ledger, key, first), key, second)


def test_ledger_clock_refuses_a_cleared_tpm(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        key, ledger = enrolled(tpm)
        machine.set_clock(tpm, 100_000_000)
        ledger = taken(ledger, key, beat(tpm, ledger, "a", Usage()))
        machine.ask(tpm, lambda esapi: esapi.clear(tss.ESYS_TR.LOCKOUT))
        machine.make_counters(tpm)
        sent = beat(tpm, ledger, "b", Usage())
        with pytest.raises(EvidenceError, match=r"^ledger\.boots"):
            taken(ledger, key, sent)
    with power.on(end=None):
        pass
    with power.on(end=None) as tpm:
        machine.boot(tpm)
        with pytest.raises(EvidenceError, match=r"^ledger\.(clock|boots)"):
            taken(ledger, key, beat(tpm, ledger, "b", Usage()))
