"""Appraise an enrolment (enrol.*): decide whether the custodian's policy lets this machine lease.

`appraise` returns an Enrolled only if every check is ok, and otherwise raises: RefusedError names
the failed check; an UndecidedError is no verdict. Left out: confidential machines, whose
processor's report an enrolment does not carry yet.
"""

from datetime import datetime
from typing import Final

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.policy import FIRMWARE_PCRS, Policy
from aicert.errors import EvidenceError
from aicert.formats import tpm
from aicert.formats.certificate import Signed
from aicert.formats.image_lock import ImageLock
from aicert.frozen import dataclass
from aicert.lease import blob, enrolment, licence, receipts
from aicert.lease.checks import RefusedError, checking
from aicert.lease.enrolment import Enrolment
from aicert.lease.receipts import RH_ENDORSEMENT, Receipt, ReceiptKey
from aicert.lease.terms import Terms
from aicert.leasing import machines

RH_OWNER: Final = 0x4000_0001  # Part 2, 7.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A machine that may get a lease.

    `image`: None if nothing measures a boot. `firmware`: PCRs 0, 1, 2, 3 and 7. `storage_public`: a
    TPMT_PUBLIC. `meter`, `epoch`: the readings of these counters, with the clock.
    """

    tier: str
    root: str
    image: ImageLock | None
    firmware: dict[int, bytes]
    storage_public: bytes
    receipt_key: ReceiptKey
    meter: tpm.CounterReading
    epoch: tpm.CounterReading


def appraise(
    given: Enrolment, terms: Terms, policy: Policy, *, at: datetime, nonce: bytes | None = None
) -> Enrolled:
    """Return the machine, if every check of the enrolment is ok. `nonce`: the custodian's
    challenge.
    """
    _check_subject(given, terms, nonce)
    ak = machines.platform(given.ak_chain, policy, at, machines.ENROL)
    quote = _quote(given, ak)
    image = machines.booted(given.pcrs, ak, policy, machines.ENROL)
    machines.require_zero(given.pcrs, licence.ZERO_PCRS, "enrol.registers")
    firmware = {index: given.pcrs[index] for index in FIRMWARE_PCRS}
    values = licence.registers(firmware, image)
    with checking("enrol.policy-ak"):
        receipt_key = receipts.check_receipt_key(given.receipt_key.public, values)
        machines.certified(given.receipt_key, ak, quote, given.nonce, RH_ENDORSEMENT)
    with checking("enrol.storage-key"):
        blob.storage_key(given.storage_key.public)
        machines.certified(given.storage_key, ak, quote, given.nonce, RH_OWNER)
    meter, epoch = _counters(given, receipt_key)
    return Enrolled(
        tier=ak.root.tier,
        root=ak.root.name,
        image=image,
        firmware=firmware,
        storage_public=given.storage_key.public,
        receipt_key=receipt_key,
        meter=meter,
        epoch=epoch,
    )


def _check_subject(given: Enrolment, terms: Terms, nonce: bytes | None) -> None:
    if (given.lease, given.terms) != (terms.lease, terms.digest):
        raise RefusedError("terms.digest", "the enrolment is for a different lease or other terms")
    if nonce is not None and given.nonce != nonce:
        raise RefusedError(
            "enrol.nonce",
            f"it answers a different nonce\nfound     {given.nonce.hex()}\nexpected  {nonce.hex()}",
        )


def _quote(given: Enrolment, ak: CertifiedKey) -> tpm.Quote:
    quote = machines.quoted(given.quote, given.pcrs, ak, machines.ENROL)
    wanted = enrolment.quote_extra_data(given.nonce, given.terms, *enrolment.names(given))
    if quote.extra_data != wanted:
        raise RefusedError("enrol.nonce", "the quote does not bind this nonce, terms and keys")
    return quote


def _counters(given: Enrolment, key: ReceiptKey) -> tuple[tpm.CounterReading, tpm.CounterReading]:
    """Return the readings of meter and epoch.

    The nonce, signed with each, shows that it was read for this enrolment.
    """

    def read(signed: Signed, index: int) -> tpm.CounterReading:
        receipt = Receipt(body=given.nonce, attest=signed.attest, signature=signed.signature)
        try:
            return receipts.verify(receipt, key, index)
        except RefusedError as error:
            raise EvidenceError(error.message) from None

    with checking("enrol.counters"):
        meter = read(given.meter, licence.METER_INDEX)
        epoch = read(given.epoch, licence.EPOCH_INDEX)
        if machines.boot(meter.clock) != machines.boot(epoch.clock):
            raise EvidenceError("the counters were read in different boots")
        return meter, epoch
