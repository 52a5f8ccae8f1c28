"""A software TPM and tpm2-tools compute the same lease policies and Names as `aicert.lease` does
without them.
"""

import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import tpm2_pytss as tss

from aicert.lease import keys, licence, tpm_policy
from tests.e2e.lease.lease_machine import define_counter
from tests.e2e.lease.lease_tpm import BorrowersTpm, borrowers_tpm, trial
from tests.vectors import leases

COUNTERS = (licence.METER_INDEX, licence.EPOCH_INDEX)
BOUNDS = leases.BOUNDS
REGISTERS = licence.registers(leases.FIRMWARE, leases.IMAGE)
CUSTODIAN = leases.CUSTODIAN.public_key()
TERMS = leases.agreed().digest


@pytest.fixture(scope="module")
def tpm() -> Iterator[BorrowersTpm]:
    with borrowers_tpm() as tpm:
        with tpm.on() as opened:
            for index in COUNTERS:
                opened.ask("make a counter", partial(define_counter, index=index))
        yield tpm


def public_of(esapi: Any, index: int) -> Any:
    return esapi.nv_read_public(esapi.tr_from_tpmpublic(index))


def test_names_of_counters_are_the_tpms(tpm: BorrowersTpm) -> None:
    with tpm.on() as opened:
        for index in COUNTERS:
            public, name = opened.ask(
                "read a counter's public area", partial(public_of, index=index)
            )
            assert bytes(public.nvPublic.marshal()) == tpm_policy.counter_public(index)
            assert bytes(name) == tpm_policy.counter_name(index)


def test_the_name_of_the_custodians_key_is_the_tpms(tpm: BorrowersTpm) -> None:
    area = keys.public_area(CUSTODIAN)

    def load(esapi: Any) -> bytes:
        public, rest = tss.TPM2B_PUBLIC.unmarshal(len(area).to_bytes(2) + area)
        assert rest == len(area) + 2
        handle = esapi.load_external(public)
        try:
            return bytes(esapi.tr_get_name(handle))
        finally:
            esapi.flush_context(handle)

    with tpm.on() as opened:
        assert opened.ask("load the custodian's key", load) == keys.name_of(CUSTODIAN)


def test_the_policy_digest_is_the_one_that_a_trial_session_has(tpm: BorrowersTpm) -> None:
    selection = "sha256:" + ",".join(map(str, licence.LICENCE_PCRS))
    concatenated = b"".join(REGISTERS[index] for index in licence.LICENCE_PCRS)

    def digest(esapi: Any) -> bytes:
        session = trial(esapi)
        meter, epoch = (esapi.tr_from_tpmpublic(index) for index in COUNTERS)
        eo = tss.TPM2_EO
        esapi.policy_pcr(session, hashlib.sha256(concatenated).digest(), selection)
        esapi.policy_nv(meter, meter, session, BOUNDS.budget.to_bytes(8), eo.UNSIGNED_LT)
        esapi.policy_nv(epoch, epoch, session, BOUNDS.epoch.to_bytes(8), eo.EQ)
        esapi.policy_counter_timer(session, BOUNDS.clock.to_bytes(8), eo.UNSIGNED_LT, 8)
        esapi.policy_counter_timer(session, BOUNDS.resets.to_bytes(4), eo.UNSIGNED_LE, 16)
        esapi.policy_counter_timer(session, BOUNDS.restarts.to_bytes(4), eo.UNSIGNED_LE, 20)
        esapi.policy_command_code(session, tss.TPM2_CC.Unseal)
        try:
            return bytes(esapi.policy_get_digest(session))
        finally:
            esapi.flush_context(session)

    with tpm.on() as opened:
        computed = opened.ask("compute a policy's digest", digest)
    assert computed == licence.policy_digest(BOUNDS, REGISTERS)


def test_the_policy_digests_are_those_of_tpm2_tools(tpm: BorrowersTpm) -> None:
    assert shutil.which("tpm2_policypcr")
    folder = tpm.folder
    # That tool accepts at most eight registers.
    registers = {index: REGISTERS[index] for index in (0, 1, 2, 4, 7, 8, 11, 14)}
    (folder / "registers").write_bytes(b"".join(registers.values()))
    (folder / "key-name").write_bytes(keys.name_of(CUSTODIAN))
    reference = licence.policy_reference(leases.LEASE, TERMS, leases.MACHINE)
    (folder / "reference").write_bytes(reference)
    selection = "sha256:" + ",".join(map(str, registers))
    with tpm.powered():
        tpm.tool("tpm2_startauthsession", "-S", "session")
        tpm.tool("tpm2_policypcr", "-S", "session", "-l", selection, "-f", "registers")
        for index, name, number in zip(
            COUNTERS, ("ult", "eq"), (BOUNDS.budget, BOUNDS.epoch), strict=True
        ):
            (folder / name).write_bytes(number.to_bytes(8))
            handle = f"{index:#x}"
            tpm.tool("tpm2_policynv", "-S", "session", "-C", handle, "-i", name, handle, name)
        for operation, fact in (
            ("--ult", f"clock={BOUNDS.clock}"),
            ("--ule", f"resets={BOUNDS.resets}"),
            ("--ule", f"restarts={BOUNDS.restarts}"),
        ):
            tpm.tool("tpm2_policycountertimer", "-S", "session", operation, fact)
        tpm.tool("tpm2_policycommandcode", "-S", "session", "-L", "policy", "TPM2_CC_Unseal")
        tpm.tool("tpm2_policyauthorize", "-S", "session", "-i", "policy", "-q", "reference",
                 "-n", "key-name", "-L", "authorized")  # fmt: skip
        tpm.tool("tpm2_flushcontext", "session")
    policy, authorized = ((folder / name).read_bytes() for name in ("policy", "authorized"))
    assert policy == licence.with_bounds(tpm_policy.with_pcrs(tpm_policy.START, registers), BOUNDS)
    assert authorized == licence.sealed_policy(CUSTODIAN, leases.LEASE, TERMS, leases.MACHINE)
