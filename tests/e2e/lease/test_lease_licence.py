"""`licence.tpm`: attacks of a borrower who owns the TPM, its power and its state, on a real swtpm.

Every refusal is the TPM's own; the machine here does what the attacker wants. If an attack works,
the test says so: another check has to stop it.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import tpm2_pytss as tss

from aicert.frozen import replace
from aicert.lease import blob as blobs
from aicert.lease import keys, licence, tpm_policy
from aicert.lease.blob import Blob
from aicert.lease.licence import Bounds, Licence
from enclave_runner.attester.tpm import Tpm
from tests.e2e.lease import lease_machine as machine
from tests.e2e.lease.lease_machine import REGISTERS
from tests.e2e.lease.lease_tpm import BorrowersTpm, borrowers_tpm
from tests.vectors.leases import CUSTODIAN, LEASE, MACHINE, STRANGER, agreed

HALF = bytes(range(32))
PUBLIC = CUSTODIAN.public_key()
TERMS = agreed().digest
METER, EPOCH = machine.COUNTERS
# The Name that licences use for this machine; custodians use that of its storage key.
HERE = MACHINE
# Why a TPM refuses: the signature covers other terms; the machine runs terms that were not signed;
# the signed policy is not for this object; a term is false; a register changed after its term.
SIGNATURE, DIFFERS = tss.TPM2_RC.SIGNATURE, tss.TPM2_RC.VALUE
OTHER_OBJECT, TERM = tss.TPM2_RC.POLICY_FAIL, tss.TPM2_RC.POLICY
MOVED = tss.TPM2_RC.PCR_CHANGED


@pytest.fixture
def power() -> Iterator[BorrowersTpm]:
    with borrowers_tpm() as power:
        yield power


def enrolled(tpm: Tpm) -> Blob:
    """Create counters and a storage key. Returns the half of the key that the custodian wrapped for
    it.
    """
    machine.boot(tpm)
    machine.make_counters(tpm)
    storage = machine.make_storage_key(tpm)
    return blobs.wrap(HALF, licence.sealed_policy(PUBLIC, LEASE, TERMS, HERE), storage)


def granted(bounds: Bounds, **changes: Any) -> Licence:
    """Return a custodian's licence for the image that boots here."""
    given: dict[str, Any] = {
        "key": CUSTODIAN, "lease": LEASE, "terms": TERMS, "machine": HERE, **changes,
    }  # fmt: skip
    digest = licence.policy_digest(bounds, REGISTERS)
    data = licence.signed_bytes(given["lease"], given["terms"], given["machine"], digest)
    return Licence(
        lease=given["lease"],
        terms=given["terms"],
        machine=given["machine"],
        image=None,
        bounds=bounds,
        signature=keys.sign(given["key"], data),
    )


def opens(tpm: Tpm, blob: Blob, given: Licence, **how: Any) -> None:
    assert machine.open_lease(tpm, blob, given, PUBLIC, **how) == HALF


def refuses(
    tpm: Tpm, blob: Blob, given: Licence, why: int, custodian: Any = PUBLIC, **how: Any
) -> None:
    def attempt() -> None:
        machine.open_lease(tpm, blob, given, custodian, **how)

    assert machine.refused(tpm, attempt) == why


def test_a_licensed_half_comes_out_as_often_as_asked(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(machine.bounds(tpm))
        opens(tpm, blob, licence.parse(licence.emit(given)))
        opens(tpm, blobs_again(blob), given)
    with power.on() as tpm:
        machine.boot(tpm)
        refuses(tpm, blob, given, TERM)
        opens(tpm, blob, granted(machine.bounds(tpm)))


def blobs_again(blob: Blob) -> Blob:
    data = blobs.emit(blob)
    assert len(data) == 448
    return blobs.parse(data)


def test_licence_tpm_edited_numbers_and_left_out_terms(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(machine.bounds(tpm))
        more = replace(given.bounds, budget=given.bounds.budget + 1)
        for field in ("budget", "epoch", "clock", "resets", "restarts"):
            value = getattr(given.bounds, field) + 1
            edited = replace(given, bounds=replace(given.bounds, **{field: value}))
            refuses(tpm, blob, edited, SIGNATURE)
        for term in machine.TERMS:
            left = tuple(one for one in machine.TERMS if one != term)
            refuses(tpm, blob, given, DIFFERS, terms=left)
        # The same terms in another order are another policy.
        refuses(tpm, blob, given, DIFFERS, terms=machine.TERMS[::-1])
        opens(tpm, blob, granted(more))


def test_licence_tpm_other_custodian_lease_terms_and_machine(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)
        bounds = machine.bounds(tpm)
        refuses(tpm, blob, granted(bounds, key=STRANGER), SIGNATURE)
        refuses(tpm, blob, granted(bounds, key=STRANGER), OTHER_OBJECT, STRANGER.public_key())
        refuses(tpm, blob, granted(bounds, lease="0" * 32), OTHER_OBJECT)
        refuses(tpm, blob, granted(bounds, terms=agreed(tick_tokens=1).digest), OTHER_OBJECT)
        # The licence is for another machine of the same lease, whose meter may be higher.
        refuses(tpm, blob, granted(bounds, machine=b"\x00\x0b" + bytes(32)), OTHER_OBJECT)
        # If the licence's names are replaced by ours, its signature is no longer valid.
        other = replace(granted(bounds, lease="0" * 32), lease=LEASE)
        refuses(tpm, blob, other, SIGNATURE)


@pytest.mark.parametrize("index", licence.LICENCE_PCRS)
def test_licence_tpm_other_registers(power: BorrowersTpm, index: int) -> None:
    """Another image, firmware, addon or credential is refused, and so is a machine that has already
    served or stopped.
    """
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(machine.bounds(tpm))
        opens(tpm, blob, given)
        tpm.extend(index, b"something else")
        refuses(tpm, blob, given, DIFFERS)
        changed = {**REGISTERS, index: tpm.read_pcrs((index,))[index]}
        refuses(tpm, blob, given, SIGNATURE, registers=changed)


def test_licence_tpm_meter_deadline_and_epoch(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(machine.bounds(tpm, ticks=2))
        machine.increment(tpm, METER)
        opens(tpm, blob, given)
        machine.increment(tpm, METER)
        refuses(tpm, blob, given, TERM)
        # A new signature is enough to renew the licence.
        given = granted(machine.bounds(tpm))
        opens(tpm, blob, given)
        clock = given.bounds.clock
        machine.set_clock(tpm, clock)
        refuses(tpm, blob, given, TERM)
        # TPM2_ClockSet only goes forward.
        earlier = partial(machine.set_clock, tpm, clock - 1)
        assert machine.refused(tpm, earlier) == tss.TPM2_RC.VALUE
        refuses(tpm, blob, given, TERM)
        given = granted(machine.bounds(tpm))
        opens(tpm, blob, given)
        machine.increment(tpm, EPOCH)
        refuses(tpm, blob, given, TERM)


def test_licence_tpm_boots_and_resumes(power: BorrowersTpm) -> None:
    with power.on(end=None) as tpm:
        blob = enrolled(tpm)
        given = granted(machine.bounds(tpm))
        resets = given.bounds.resets
    # The power was cut: the clock has hardly moved, but the reset is counted.
    with power.on(end=tss.TPM2_SU.STATE) as tpm:
        machine.boot(tpm)
        assert machine.now(tpm).resetCount == resets + 1
        refuses(tpm, blob, given, TERM)
        given = granted(machine.bounds(tpm))
        careless = granted(replace(given.bounds, restarts=99))
        opens(tpm, blob, given)
    with power.on("startup-state") as tpm:
        # Nothing booted, yet the registers have the values of the good boot.
        assert tpm.read_pcrs(licence.LICENCE_PCRS) == REGISTERS
        assert machine.now(tpm).resetCount == resets + 1
        refuses(tpm, blob, given, TERM)
        # Any system could open the lease in this state if licences did not bound restarts.
        opens(tpm, blob, careless)


def test_licence_tpm_counters_made_again(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)
        machine.increment(tpm, METER)
        given = granted(machine.bounds(tpm, ticks=1))
        before = [machine.count(tpm, index) for index in machine.COUNTERS]
        for index in machine.COUNTERS:
            machine.remove_counter(tpm, index)
        machine.make_counters(tpm)
        after = [machine.count(tpm, index) for index in machine.COUNTERS]
        # A new counter starts above every value that any counter of this TPM has shown.
        assert min(after) > max(before)
        refuses(tpm, blob, given, TERM)
        machine.remove_counter(tpm, METER)
        plain = tpm_policy.COUNTER_ATTRIBUTES & ~0x10
        machine.ask(tpm, lambda esapi: machine.define_counter(esapi, METER, plain))
        assert machine.count(tpm, METER) == 0
        refuses(tpm, blob, granted(machine.bounds(tpm)), DIFFERS)


def test_licence_tpm_after_a_clear(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(replace(machine.bounds(tpm), resets=99, restarts=99))
        opens(tpm, blob, given)
        machine.ask(tpm, lambda esapi: esapi.clear(tss.ESYS_TR.LOCKOUT))
        assert machine.now(tpm).resetCount == 0
        machine.make_counters(tpm)
        machine.make_storage_key(tpm)
        # The storage key was lost with the owner's seed; TPMs report that differently.
        for licensed in (given, granted(machine.bounds(tpm))):
            machine.refused(tpm, partial(machine.open_lease, tpm, blob, licensed, PUBLIC))


def test_a_password_opens_nothing(power: BorrowersTpm) -> None:
    with power.on() as tpm:
        blob = enrolled(tpm)

        def unseal(esapi: Any) -> None:
            with machine._loaded(esapi) as keep:
                esapi.unseal(keep(machine._imported(esapi, blob)))

        machine.refused(tpm, lambda: machine.ask(tpm, unseal))


def test_a_satisfied_session_outlives_the_deadline_and_no_register(power: BorrowersTpm) -> None:
    """The TPM checks registers and deadline only when the policy runs, so the image must end
    sessions at once.
    """
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(machine.bounds(tpm))
        deadline = given.bounds.clock

        def wait(esapi: Any) -> None:
            esapi.clock_set(deadline + 1)

        opens(tpm, blob, given, meanwhile=wait)
        refuses(tpm, blob, given, TERM)
        given = granted(machine.bounds(tpm))

        def late(esapi: Any) -> None:
            digest = tss.TPMU_HA(sha256=bytes(32))
            values = tss.TPML_DIGEST_VALUES(
                [tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=digest)]
            )
            esapi.pcr_extend(tss.ESYS_TR(12), values)

        refuses(tpm, blob, given, MOVED, meanwhile=late)


def test_state_that_is_put_back_opens_an_old_licence(power: BorrowersTpm) -> None:
    """The TPM cannot prevent this, so a lease that is not offline also needs the broker's half."""
    with power.on() as tpm:
        blob = enrolled(tpm)
        given = granted(replace(machine.bounds(tpm, ticks=1), resets=99))
        meter = machine.count(tpm, METER)
    power.keep("old")
    with power.on() as tpm:
        machine.boot(tpm)
        opens(tpm, blob, given)
        machine.increment(tpm, METER)
        refuses(tpm, blob, given, TERM)
    power.put_back("old")
    with power.on() as tpm:
        machine.boot(tpm)
        assert machine.count(tpm, METER) == meter
        opens(tpm, blob, given)
