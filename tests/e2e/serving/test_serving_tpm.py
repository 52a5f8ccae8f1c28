"""What a serving machine asks of its TPM, on a real swtpm whose platform is simulated."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import tpm2_pytss as tss
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.appraisal.appraise import appraise
from aicert.appraisal.result import AttestationResult
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from aicert.formats.digest import Digest
from aicert.frozen import replace
from aicert.lease import (
    blob,
    enrolment,
    keys,
    licence,
    receipts,
    serving,
    terms,
    tpm_policy,
)
from aicert.lease.blob import Blob
from aicert.lease.checks import RefusedError
from aicert.lease.licence import Bounds, Licence
from aicert.lease.receipts import check_receipt_key
from aicert.lease.serving import Evidence, Statement
from aicert.leasing import serving as judging
from aicert.leasing.serving import Channel
from aicert.trust.built_in import built_in, with_root
from enclave_runner.attester.tpm import Tpm
from enclave_runner.serving import lease_tpm
from enclave_runner.serving.lease_tpm import LeaseTpm, Served
from rules.machines.ca import Ca
from tests.adversarial.forger import Scene
from tests.e2e.lease import lease_machine as machine
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.vectors.leases import CUSTODIAN, LEASE, STRANGER, agreed

HALF = bytes(range(32))
PUBLIC = CUSTODIAN.public_key()
TERMS = agreed()
NONCE = b"\x0f" * 32


def issued(tpm: LeaseTpm, *, milliseconds: int = 600_000) -> tuple[Blob, Licence]:
    """Return the blob and the licence that a custodian who sees the TPM in its present state would
    issue.
    """
    shown = tpm.enrol(TERMS, NONCE)
    clock = tpm.clock()
    bounds = Bounds(
        budget=tpm.meter() + 2, epoch=tpm.epoch(), clock=clock.milliseconds + milliseconds,
        resets=clock.resets, restarts=0,
    )  # fmt: skip
    name = enrolment.names(shown)[1]
    policy = licence.sealed_policy(PUBLIC, LEASE, TERMS.digest, name)
    digest = licence.policy_digest(bounds, tpm.registers)
    data = licence.signed_bytes(LEASE, TERMS.digest, name, digest)
    given = Licence(
        lease=LEASE, terms=TERMS.digest, machine=name, image=None, bounds=bounds,
        signature=keys.sign(CUSTODIAN, data),
    )  # fmt: skip
    return blob.wrap(HALF, policy, shown.storage_key.public), given


def loaded(tpm: Tpm) -> list[int]:
    """Return the handles of the sessions and objects that the TPM holds."""

    def sessions(esapi: Any) -> list[int]:
        loaded_handles = []
        for first in (0x02000000, 0x03000000):
            _, capability = esapi.get_capability(tss.TPM2_CAP.HANDLES, first, 8)
            handles = capability.data.handles
            loaded_handles += [int(handles[place]) for place in range(handles.count)]
        return loaded_handles

    return machine.ask(tpm, sessions) + machine.transient(tpm)


def test_a_lease_is_opened_once_a_boot_and_leaves_no_session(power: BorrowersTpm) -> None:
    with power.on() as opened:
        machine.boot(opened)
        with LeaseTpm(opened) as tpm:
            wrapped, given = issued(tpm)
            before = loaded(opened)
            assert tpm.open(wrapped, given, PUBLIC) == HALF
            assert loaded(opened) == before
            tpm.extend(licence.SERVING_PCR, b"serving\n")
            with pytest.raises(ToolError, match="a term of the licence is not met"):
                tpm.open(wrapped, given, PUBLIC)
            assert loaded(opened) == before
        assert loaded(opened) == []
        # Nor can a watching thread still use the TPM while the connection is being closed.
        with pytest.raises(ToolError, match="cannot be asked: the machine has ended"):
            tpm.clock()
        with pytest.raises(ToolError, match="PCR 14 is not zero at the start"):
            LeaseTpm(opened).__enter__()


def test_counters_and_keys_outlive_a_boot(power: BorrowersTpm) -> None:
    with power.on() as opened, LeaseTpm(opened) as tpm:
        tpm.tick()
        tpm.end_epoch()
        before = (tpm.meter(), tpm.epoch(), tpm.receipt_key_name)
        clock = tpm.clock()
    with power.on() as opened, LeaseTpm(opened) as tpm:
        assert (tpm.meter(), tpm.epoch(), tpm.receipt_key_name) == before
        assert tpm.clock().resets > clock.resets


def test_meter_paid_at_the_budget_opens_nothing(power: BorrowersTpm) -> None:
    with power.on() as opened, LeaseTpm(opened) as tpm:
        wrapped, given = issued(tpm)
        tpm.tick()
        assert tpm.open(wrapped, given, PUBLIC) == HALF
        tpm.tick()
        with pytest.raises(ToolError, match="a term of the licence is not met"):
            tpm.open(wrapped, given, PUBLIC)


def test_licence_tpm_is_refused_before_the_tpm_is_asked(power: BorrowersTpm) -> None:
    with power.on() as opened, LeaseTpm(opened) as tpm:
        wrapped, given = issued(tpm)
        more = replace(given.bounds, budget=given.bounds.budget + 1)
        for forged, custodian in (
            (replace(given, bounds=more), PUBLIC),
            (replace(given, lease="0" * 32), PUBLIC),
            (given, STRANGER.public_key()),
        ):
            with pytest.raises(RefusedError, match=r"^licence\.tpm"):
                tpm.open(wrapped, forged, custodian)
        elsewhere = b"\x00\x0b" + bytes(32)
        digest = licence.policy_digest(given.bounds, tpm.registers)
        data = licence.signed_bytes(LEASE, TERMS.digest, elsewhere, digest)
        other = replace(given, machine=elsewhere, signature=keys.sign(CUSTODIAN, data))
        with pytest.raises(RefusedError, match="for a different machine"):
            tpm.open(wrapped, other, PUBLIC)
        assert tpm.open(wrapped, given, PUBLIC) == HALF


def test_receipts_are_signed_while_it_serves_and_not_after_a_stop(power: BorrowersTpm) -> None:
    with power.on() as opened:
        machine.boot(opened)
        with LeaseTpm(opened) as tpm:
            shown = enrolment.parse(enrolment.emit(tpm.enrol(TERMS, NONCE)))
            key = check_receipt_key(shown.receipt_key.public, tpm.registers)
            assert key.name == tpm.receipt_key_name
            tpm.extend(licence.SERVING_PCR, b"serving\n")
            tpm.tick()
            reading = receipts.verify(tpm.receipt(b"body"), key, licence.METER_INDEX)
            assert reading.value == tpm.meter()
            tpm.end_epoch()
            ended = receipts.verify(
                tpm.receipt(b"order", licence.EPOCH_INDEX), key, licence.EPOCH_INDEX
            )
            assert ended.value == tpm.epoch()
            tpm.extend(licence.STOPPED_PCR, b"stopped revoked\n")
            with pytest.raises(ToolError, match="cannot sign a receipt"):
                tpm.receipt(b"body")


SPKI, EXPORTER = b"key", b"\x22" * 32
CERTIFIED_SCENE = Scene()


def served_by(tpm: LeaseTpm) -> Served:
    """Return what the machine says that it serves: the model of CERTIFIED_SCENE."""
    model = Digest.parse((appraised(CERTIFIED_SCENE).subject or {})["model"])
    offered = agreed(model=model)
    statement = Statement(
        lease=LEASE, terms=offered.digest, model=model, certificate=offered.certificate,
        image=None, receipt_key=tpm.receipt_key_name.hex(), boots=tpm.clock().resets,
    )  # fmt: skip
    return Served(terms=terms.emit(offered), statement=serving.emit_statement(statement))


def serve(tpm: LeaseTpm, served: Served) -> None:
    model = terms.parse(served.terms).model
    for event in serving.events(served.terms, model):
        tpm.extend(licence.SERVING_PCR, event)


def judged(shown: Evidence, ca: Ca, *, exporter: bytes = EXPORTER) -> int:
    """Judge the evidence as a consumer whose connection has that exporter value. Returns
    the meter.
    """
    policy = with_root(built_in("local"), ca.certificate.public_bytes(Encoding.PEM), "platform.pem")
    return judging.appraise(
        serving.parse(serving.emit(shown)),
        Channel(nonce=NONCE, spki=SPKI, exporter=exporter),
        policy,
        lease=LEASE,
        certified=appraised(CERTIFIED_SCENE),
        at=datetime.now(UTC),
    ).meter


def test_a_consumer_judges_what_the_machine_shows(power: BorrowersTpm, ca: Ca) -> None:
    with power.on() as opened, LeaseTpm(opened) as tpm:
        served = served_by(tpm)
        serve(tpm, served)
        shown = tpm.evidence(NONCE, SPKI, EXPORTER, served)
        assert judged(shown, ca) == tpm.meter()
    with pytest.raises(RefusedError, match=r"^serve\.channel"):
        judged(shown, ca, exporter=bytes(32))


def test_many_who_ask_for_evidence_leave_the_tpm_to_others(
    power: BorrowersTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask, as often as they like. If all were served at once, an order to end would
    wait behind all of them.
    """
    with power.on() as opened, LeaseTpm(opened) as tpm:
        served, quote = served_by(tpm), tpm._quote
        serve(tpm, served)
        waiting, most = [0], [0]

        def noted(bound: bytes) -> tuple[bytes, bytes, dict[int, bytes]]:
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
            try:
                return quote(bound)
            finally:
                waiting[0] -= 1

        monkeypatch.setattr(tpm, "_quote", noted)
        with ThreadPoolExecutor(8) as clients:
            shown = [clients.submit(tpm.evidence, NONCE, SPKI, EXPORTER, served) for _ in range(16)]
            assert tpm.clock().restarts == 0
        assert {one.result().terms for one in shown} == {served.terms}
        assert most == [1]


def test_serve_boot_refuses_a_tpm_that_was_resumed(power: BorrowersTpm, ca: Ca) -> None:
    """After a resume, all registers of a machine that served are back, whatever system runs."""
    with power.on(end=tss.TPM2_SU.STATE) as opened, LeaseTpm(opened) as tpm:
        served = served_by(tpm)
        serve(tpm, served)
        registers = tpm.registers
    with power.on("startup-state") as opened:
        # Our machine does not start,
        with pytest.raises(ToolError, match="PCR 14 is not zero at the start"):
            LeaseTpm(opened).__enter__()
        # but the attacker's asks the TPM for the same.
        other = LeaseTpm(opened)
        other.registers = registers
        other._key, other._key_public = opened.ask("make the key", other._make_receipt_key)
        shown = other.evidence(NONCE, SPKI, EXPORTER, served)
        other.__exit__()
    with pytest.raises(RefusedError, match=r"^serve\.boot: receipt\.boot: the TPM was resumed"):
        judged(shown, ca)


def appraised(scene: Scene) -> AttestationResult:
    certificate = certificates.parse(scene.get("file"))
    return appraise(certificate, None, scene.get("policy"), at=scene.at)


def test_what_is_there_and_is_something_else_is_an_error(power: BorrowersTpm) -> None:
    with power.on() as opened:
        plain = tpm_policy.COUNTER_ATTRIBUTES & ~0x10
        machine.ask(opened, lambda esapi: machine.define_counter(esapi, licence.METER_INDEX, plain))
        with pytest.raises(ToolError, match=r"NV 0x01800010 .* is not a lease counter"):
            LeaseTpm(opened).__enter__()
        machine.remove_counter(opened, licence.METER_INDEX)

        def other_key(esapi: Any) -> None:
            key, *_ = esapi.create_primary(None, "ecc:null:aes128cfb")
            try:
                esapi.evict_control(tss.ESYS_TR.OWNER, key, lease_tpm.STORAGE_HANDLE)
            finally:
                esapi.flush_context(key)

        machine.ask(opened, other_key)
        with pytest.raises(ToolError, match="in this TPM is a different key"):
            LeaseTpm(opened).__enter__()
        assert machine.transient(opened) == []
