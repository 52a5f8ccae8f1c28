"""What a serving machine asks of its TPM, in the simplest form, to test what the TPM refuses.

Nothing here decides anything: every refusal comes from the TPM.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import tpm2_pytss as tss

from aicert.errors import ToolError
from aicert.formats.certificate import Signed
from aicert.formats.measurement import ZERO
from aicert.formats.tpm import sha256_name
from aicert.lease import blob as blobs
from aicert.lease import enrolment, keys, licence, receipts, tpm_policy
from aicert.lease.blob import Blob
from aicert.lease.enrolment import CertifiedPublic, Enrolment
from aicert.lease.licence import Bounds, Licence
from aicert.lease.receipts import Receipt
from aicert.lease.terms import Terms
from enclave_runner.attester.tpm import Tpm

T = TypeVar("T")
STORAGE_HANDLE = 0x81000010
COUNTERS = (licence.METER_INDEX, licence.EPOCH_INDEX)
# What a boot of the leased image measures into each register that is not zero afterwards.
BOOT = {index: b"boot %d" % index for index in (*licence.FIRMWARE_PCRS, *licence.IMAGE_PCRS)}
TERMS = ("pcr", "meter", "epoch", "clock", "resets", "restarts", "command")
NO_SCHEME = tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.NULL)
NO_CIPHER = tss.TPMT_SYM_DEF_OBJECT(algorithm=tss.TPM2_ALG.NULL)


def measured(event: bytes) -> bytes:
    """Return the value of a register that was zero, after one event."""
    return hashlib.sha256(ZERO + hashlib.sha256(event).digest()).digest()


REGISTERS = {index: measured(BOOT[index]) if index in BOOT else ZERO
             for index in licence.LICENCE_PCRS}  # fmt: skip


def boot(tpm: Tpm, events: Mapping[int, bytes] = BOOT) -> None:
    for index, event in events.items():
        tpm.extend(index, event)


def define_counter(esapi: Any, index: int, attributes: int = tpm_policy.COUNTER_ATTRIBUTES) -> None:
    public = tss.TPM2B_NV_PUBLIC(
        tss.TPMS_NV_PUBLIC(
            nvIndex=index,
            nameAlg=tss.TPM2_ALG.SHA256,
            attributes=tss.TPMA_NV(attributes),
            dataSize=8,
        )
    )
    handle = esapi.nv_define_space(b"", public)
    if attributes & 0x10:
        esapi.nv_increment(handle, handle)
    else:
        esapi.nv_write(handle, bytes(8), 0, handle)


def make_counters(tpm: Tpm) -> None:
    for index in COUNTERS:
        ask(tpm, lambda esapi, index=index: define_counter(esapi, index))  # type: ignore[misc]


def remove_counter(tpm: Tpm, index: int) -> None:
    ask(tpm, lambda esapi: esapi.nv_undefine_space(esapi.tr_from_tpmpublic(index)))


def count(tpm: Tpm, index: int) -> int:
    def read(esapi: Any) -> int:
        handle = esapi.tr_from_tpmpublic(index)
        return int.from_bytes(bytes(esapi.nv_read(handle, 8, 0, handle)))

    return ask(tpm, read)


def increment(tpm: Tpm, index: int) -> None:
    def add(esapi: Any) -> None:
        handle = esapi.tr_from_tpmpublic(index)
        esapi.nv_increment(handle, handle)

    ask(tpm, add)


def make_storage_key(tpm: Tpm) -> bytes:
    """Create a storage key of the owner, kept at STORAGE_HANDLE. Returns its TPMT_PUBLIC."""

    def make(esapi: Any) -> bytes:
        template = tss.TPM2B_PUBLIC.parse(
            "rsa2048:null:aes128cfb", objectAttributes=tss.TPMA_OBJECT(blobs.STORAGE_ATTRIBUTES)
        )
        key, public, *_ = esapi.create_primary(None, template)
        try:
            esapi.evict_control(tss.ESYS_TR.OWNER, key, STORAGE_HANDLE)
        finally:
            esapi.flush_context(key)
        return bytes(public.publicArea.marshal())

    return ask(tpm, make)


def now(tpm: Tpm) -> Any:
    """Return the TPM's TPMS_CLOCK_INFO."""
    return ask(tpm, lambda esapi: esapi.read_clock()).clockInfo


def bounds(tpm: Tpm, *, ticks: int = 10, milliseconds: int = 600_000) -> Bounds:
    """Return the bounds that a custodian who sees the TPM in its present state would allow."""
    clock = now(tpm)
    return Bounds(
        budget=count(tpm, COUNTERS[0]) + ticks,
        epoch=count(tpm, COUNTERS[1]),
        clock=int(clock.clock) + milliseconds,
        resets=int(clock.resetCount),
        restarts=int(clock.restartCount),
    )


def set_clock(tpm: Tpm, milliseconds: int) -> None:
    ask(tpm, lambda esapi: esapi.clock_set(milliseconds))


def ask(tpm: Tpm, command: Callable[[Any], T]) -> T:
    return tpm.ask("do what the test asks for", command)


def transient(tpm: Tpm) -> list[int]:
    """Return the handles of loaded objects that are not persistent."""
    _, capability = ask(
        tpm, lambda esapi: esapi.get_capability(tss.TPM2_CAP.HANDLES, 0x80000000, 8)
    )
    handles = capability.data.handles
    listed = [int(handles[place]) for place in range(handles.count)]
    return [handle for handle in listed if handle < 0x81000000]


def refused(tpm: Tpm, command: Callable[[], object]) -> int:
    """Run a command that the TPM must refuse. Returns the TPM_RC, which does not include the number
    of the faulty parameter; no object of the command may stay loaded.
    """
    with pytest.raises(ToolError) as caught:
        command()
    assert transient(tpm) == []
    cause = caught.value.__cause__
    assert isinstance(cause, tss.TSS2_Exception)
    return int(cause.error)


def open_lease(
    tpm: Tpm,
    blob: Blob,
    given: Licence,
    custodian: Any,
    *,
    terms: tuple[str, ...] = TERMS,
    registers: Mapping[int, bytes] = REGISTERS,
    meanwhile: Callable[[Any], None] = lambda esapi: None,
) -> bytes:
    """Return the TPM's half of the content key. `terms` are those that the machine runs,
    `registers` those that it claims to have; `meanwhile` runs between the policy and the unsealing.
    """

    def unseal(esapi: Any) -> bytes:
        with _loaded(esapi) as keep:
            key = keep(_imported(esapi, blob))
            ticket, name, digest = _ticket(esapi, keep, given, custodian, registers)
            session = keep(_session(esapi))
            for term in terms:
                _run(esapi, session, term, given.bounds)
            reference = licence.policy_reference(given.lease, given.terms, given.machine)
            esapi.policy_authorize(session, digest, name, ticket, reference)
            meanwhile(esapi)
            return bytes(esapi.unseal(key, session))

    return ask(tpm, unseal)


@contextmanager
def _loaded(esapi: Any) -> Iterator[Callable[[Any], Any]]:
    handles: list[Any] = []

    def keep(handle: Any) -> Any:
        handles.append(handle)
        return handle

    try:
        yield keep
    finally:
        for handle in reversed(handles):
            try:
                esapi.flush_context(handle)
            except tss.TSS2_Exception:
                # A session that has done its work no longer exists.
                pass


def _imported(esapi: Any, blob: Blob) -> Any:
    parent = esapi.tr_from_tpmpublic(STORAGE_HANDLE)
    public, _ = tss.TPM2B_PUBLIC.unmarshal(len(blob.public).to_bytes(2) + blob.public)
    duplicate = tss.TPM2B_PRIVATE(buffer=blob.duplicate)
    seed = tss.TPM2B_ENCRYPTED_SECRET(secret=blob.seed)
    private = esapi.import_(parent, b"", public, duplicate, seed, NO_CIPHER)
    return esapi.load(parent, private, public)


def _ticket(
    esapi: Any, keep: Callable[[Any], Any], given: Licence, custodian: Any,
    registers: Mapping[int, bytes],
) -> tuple[Any, Any, bytes]:  # fmt: skip
    area = keys.public_area(custodian)
    public, _ = tss.TPM2B_PUBLIC.unmarshal(len(area).to_bytes(2) + area)
    # A ticket of the NULL hierarchy would be useless.
    key = keep(esapi.load_external(public, hierarchy=tss.ESYS_TR.OWNER))
    digest = licence.policy_digest(given.bounds, registers)
    r, s = keys.signature_numbers(given.signature)
    signature = tss.TPMT_SIGNATURE(sigAlg=tss.TPM2_ALG.ECDSA)
    signature.signature.ecdsa.hash = tss.TPM2_ALG.SHA256
    signature.signature.ecdsa.signatureR = r.to_bytes(32)
    signature.signature.ecdsa.signatureS = s.to_bytes(32)
    data = licence.signed_bytes(given.lease, given.terms, given.machine, digest)
    ticket = esapi.verify_signature(key, hashlib.sha256(data).digest(), signature)
    return ticket, public.get_name(), digest


def _session(esapi: Any) -> Any:
    """Start a session salted with the storage key, so that unsealed data is encrypted in
    transit.
    """
    parent = esapi.tr_from_tpmpublic(STORAGE_HANDLE)
    session = esapi.start_auth_session(
        parent, tss.ESYS_TR.NONE, tss.TPM2_SE.POLICY, "aes128cfb", tss.TPM2_ALG.SHA256
    )
    esapi.trsess_set_attributes(session, tss.TPMA_SESSION.ENCRYPT)
    return session


def _run(esapi: Any, session: Any, term: str, given: Bounds) -> None:
    meter, epoch = (esapi.tr_from_tpmpublic(index) for index in COUNTERS)
    eo, timer = tss.TPM2_EO, esapi.policy_counter_timer
    if term == "pcr":
        selection = "sha256:" + ",".join(map(str, licence.LICENCE_PCRS))
        esapi.policy_pcr(session, b"", selection)
    elif term == "meter":
        esapi.policy_nv(meter, meter, session, given.budget.to_bytes(8), eo.UNSIGNED_LT)
    elif term == "epoch":
        esapi.policy_nv(epoch, epoch, session, given.epoch.to_bytes(8), eo.EQ)
    elif term == "clock":
        timer(session, given.clock.to_bytes(8), eo.UNSIGNED_LT, 8)
    elif term == "resets":
        timer(session, given.resets.to_bytes(4), eo.UNSIGNED_LE, 16)
    elif term == "restarts":
        timer(session, given.restarts.to_bytes(4), eo.UNSIGNED_LE, 20)
    else:
        esapi.policy_command_code(session, tss.TPM2_CC.Unseal)


def make_receipt_key(esapi: Any, registers: Mapping[int, bytes] = REGISTERS) -> tuple[Any, bytes]:
    """Create the key for receipts, bound to a machine with these registers. Returns it with its
    TPMT_PUBLIC.
    """
    template = tss.TPM2B_PUBLIC.parse(
        "ecc256:ecdsa-sha256:null",
        objectAttributes=tss.TPMA_OBJECT(receipts.RECEIPT_KEY_ATTRIBUTES),
    )
    template.publicArea.authPolicy = licence.receipt_policy(registers)
    key, public, *_ = esapi.create_primary(None, template, primary_handle=tss.ESYS_TR.ENDORSEMENT)
    return key, bytes(public.publicArea.marshal())


def receipt_key(tpm: Tpm) -> bytes:
    """Return the TPMT_PUBLIC of the key for receipts."""

    def public_of(esapi: Any) -> bytes:
        with _loaded(esapi) as keep:
            key, public = make_receipt_key(esapi)
            keep(key)
            return public

    return ask(tpm, public_of)


def receipt(
    tpm: Tpm, index: int, body: bytes, registers: Mapping[int, bytes] = REGISTERS
) -> Receipt:
    """Return a receipt about a counter, over a body."""

    def certify(esapi: Any) -> Receipt:
        with _loaded(esapi) as keep:
            key = keep(make_receipt_key(esapi, registers)[0])
            session = keep(
                esapi.start_auth_session(
                    tss.ESYS_TR.NONE, tss.ESYS_TR.NONE, tss.TPM2_SE.POLICY, "null",
                    tss.TPM2_ALG.SHA256,
                )
            )  # fmt: skip
            selection = "sha256:" + ",".join(map(str, licence.RECEIPT_PCRS))
            esapi.policy_pcr(session, b"", selection)
            counter = esapi.tr_from_tpmpublic(index)
            attest, signature = esapi.nv_certify(
                key, counter, hashlib.sha256(body).digest(), NO_SCHEME, 8, 0,
                auth_handle=counter, session1=session,
            )  # fmt: skip
            return Receipt(body=body, attest=bytes(attest), signature=bytes(signature.marshal()))

    return ask(tpm, certify)


def enrol(tpm: Tpm, terms: Terms, nonce: bytes, registers: Mapping[int, bytes]) -> Enrolment:
    """Return what the machine shows of itself, its keys and its counters, which exist already."""
    ak = tpm.attestation_key()

    def certified(esapi: Any, key: Any, public: bytes) -> CertifiedPublic:
        attest, signature = esapi.certify(key, ak, nonce, NO_SCHEME)
        signed = Signed(attest=bytes(attest), signature=bytes(signature.marshal()))
        return CertifiedPublic(public=public, certify=signed)

    def both(esapi: Any) -> tuple[CertifiedPublic, CertifiedPublic]:
        storage = esapi.tr_from_tpmpublic(STORAGE_HANDLE)
        storage_public = bytes(esapi.read_public(storage)[0].publicArea.marshal())
        with _loaded(esapi) as keep:
            key, public = make_receipt_key(esapi, registers)
            return (
                certified(esapi, keep(key), public),
                certified(esapi, storage, storage_public),
            )

    receipt_public, storage_public = ask(tpm, both)
    names = [sha256_name(key.public) for key in (receipt_public, storage_public)]
    attest, signature, values = tpm.quote(enrolment.quote_extra_data(nonce, terms.digest, *names))
    meter, epoch = (receipt(tpm, index, nonce, registers) for index in COUNTERS)
    return Enrolment(
        lease=terms.lease,
        terms=terms.digest,
        nonce=nonce,
        ak_chain=tpm.ak_chain(),
        quote=Signed(attest=attest, signature=signature),
        pcrs=values,
        receipt_key=receipt_public,
        storage_key=storage_public,
        meter=Signed(attest=meter.attest, signature=meter.signature),
        epoch=Signed(attest=epoch.attest, signature=epoch.signature),
    )
