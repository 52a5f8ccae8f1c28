"""Use the TPM of a serving machine: counters, keys, the sealed half of the content key, receipts.

A lease is opened in a session of its own. The session is salted to the storage key, so that the
unsealed half is encrypted in transit, and it is always flushed: a session whose policy is satisfied
would still unseal after the deadline. Every key and counter is compared with its expected public
area before it is used. PCRs are read once, before anything is served.

Nothing is decided here: the TPM refuses what the policy forbids, and the caller decides what to ask
for.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_CC,
    TPM2_EO,
    TPM2_SE,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_NV_PUBLIC,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMA_NV,
    TPMA_OBJECT,
    TPMA_SESSION,
    TPMS_NV_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
    TPMT_SYM_DEF_OBJECT,
    TSS2_Exception,
)

from aicert.errors import EvidenceError, ToolError
from aicert.formats.certificate import Signed
from aicert.formats.measurement import ZERO
from aicert.formats.tpm import COUNTER_BYTES, sha256_name
from aicert.frozen import dataclass
from aicert.lease import blob as blobs
from aicert.lease import enrolment, keys, licence, receipts, serving, tpm_policy
from aicert.lease.blob import Blob
from aicert.lease.checks import RefusedError
from aicert.lease.enrolment import CertifiedPublic, Enrolment
from aicert.lease.licence import EPOCH_INDEX, METER_INDEX, Licence
from aicert.lease.receipts import Receipt
from aicert.lease.serving import Evidence
from aicert.lease.terms import Terms
from enclave_runner.attester.tpm import Tpm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

STORAGE_HANDLE: Final = 0x8100_0010
_NO_CIPHER: Final = TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL)
_NO_SCHEME: Final = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
_COUNTERS: Final = (METER_INDEX, EPOCH_INDEX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The TPM's clock: milliseconds with power, resets, and resumes since the last reset."""

    milliseconds: int
    resets: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The bytes of the terms and of the statement that a machine attests to serve."""

    terms: bytes
    statement: bytes


class LeaseTpm:
    """The TPM during one boot of a serving machine, as a context manager over an open Tpm."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._key: Any = None
        self._key_public = b""
        self._storage_name = b""
        # Many threads share one connection to the TPM.
        self._lock = threading.RLock()
        # Evidence takes nine commands, and anybody may ask for it. One request at a time leaves the
        # TPM to whoever watches the deadline, pays, or obeys an order.
        self._showing = threading.Lock()
        self._is_closed = False
        self.registers: Mapping[int, bytes] = {}
        """The licence's PCRs as they were when the machine started."""

    def __enter__(self) -> Self:
        self.registers = self._tpm.read_pcrs(licence.LICENCE_PCRS)
        for index in licence.ZERO_PCRS:
            if self.registers[index] != ZERO:
                raise ToolError(
                    f"PCR {index} is not zero at the start: {self.registers[index].hex()}",
                    hint="restart the machine: a lease is opened once a boot",
                )
        self._ask("make its counters", self._make_counters)
        self._storage_name = self._ask("make its storage key", self._make_storage_key)
        self._key, self._key_public = self._ask("make its receipt key", self._make_receipt_key)
        return self

    def __exit__(self, *_: object) -> None:
        key, self._key = self._key, None
        with self._lock:
            try:
                if key is not None:
                    self._tpm.ask("flush its receipt key", lambda esapi: esapi.flush_context(key))
            finally:
                # A watching thread may be about to use the connection, which is closed next.
                self._is_closed = True

    def _ask(self, what: str, command: Any) -> Any:
        with self._alone() as tpm:
            return tpm.ask(what, command)

    @contextmanager
    def _alone(self) -> Iterator[Tpm]:
        with self._lock:
            if self._is_closed:
                raise ToolError("the TPM cannot be asked: the machine has ended")
            yield self._tpm

    # --- What must exist: created at the first boot, compared at every boot.

    def _make_counters(self, esapi: Any) -> None:
        for index in _COUNTERS:
            if not _exists(esapi, index):
                public = TPMS_NV_PUBLIC(
                    nvIndex=index,
                    nameAlg=TPM2_ALG.SHA256,
                    attributes=TPMA_NV(tpm_policy.COUNTER_ATTRIBUTES),
                    dataSize=COUNTER_BYTES,
                )
                handle = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(public))
                esapi.nv_increment(handle, handle)
            _, name = esapi.nv_read_public(esapi.tr_from_tpmpublic(index))
            if bytes(name) != tpm_policy.counter_name(index):
                raise ToolError(
                    f"NV {index:#010x} in this TPM is not a lease counter",
                    hint=f"tpm2_nvundefine -C o {index:#010x}",
                )

    def _make_storage_key(self, esapi: Any) -> bytes:
        """Make the storage key, or check the one that exists. Returns its Name."""
        if not _exists(esapi, STORAGE_HANDLE):
            template = TPM2B_PUBLIC.parse(
                "rsa2048:null:aes128cfb", objectAttributes=TPMA_OBJECT(blobs.STORAGE_ATTRIBUTES)
            )
            key, *_ = esapi.create_primary(None, template)
            try:
                esapi.evict_control(ESYS_TR.OWNER, key, STORAGE_HANDLE)
            finally:
                esapi.flush_context(key)
        public = self._storage_public(esapi)
        try:
            blobs.storage_key(public)
        except EvidenceError as error:
            raise ToolError(
                f"{STORAGE_HANDLE:#010x} in this TPM is a different key: {error.message}",
                hint=f"tpm2_evictcontrol -C o -c {STORAGE_HANDLE:#010x}",
            ) from None
        return sha256_name(public)

    def _storage_public(self, esapi: Any) -> bytes:
        public, *_ = esapi.read_public(esapi.tr_from_tpmpublic(STORAGE_HANDLE))
        return bytes(public.publicArea.marshal())

    def _make_receipt_key(self, esapi: Any) -> tuple[Any, bytes]:
        template = TPM2B_PUBLIC.parse(
            "ecc256:ecdsa-sha256:null",
            objectAttributes=TPMA_OBJECT(receipts.RECEIPT_KEY_ATTRIBUTES),
        )
        template.publicArea.authPolicy = licence.receipt_policy(self.registers)
        # Keys of the endorsement hierarchy show the real reset count, not an obfuscated one.
        key, public, *_ = esapi.create_primary(None, template, primary_handle=ESYS_TR.ENDORSEMENT)
        return key, bytes(public.publicArea.marshal())

    def _receipt_key(self) -> Any:
        if self._key is None:
            raise ToolError("the TPM cannot sign: the machine has ended")
        return self._key

    @property
    def receipt_key_name(self) -> bytes:
        """The Name of the key that signs receipts."""
        return sha256_name(self._key_public)

    # --- What the TPM reports.

    def clock(self) -> Clock:
        """Read the TPM's clock."""
        info = self._ask("read its clock", lambda esapi: esapi.read_clock()).clockInfo
        return Clock(
            milliseconds=int(info.clock),
            resets=int(info.resetCount),
            restarts=int(info.restartCount),
        )

    def meter(self) -> int:
        """Read how many ticks have been paid so far."""
        return self._count(METER_INDEX)

    def epoch(self) -> int:
        """Read the epoch that a licence must have."""
        return self._count(EPOCH_INDEX)

    def _count(self, index: int) -> int:
        def read(esapi: Any) -> int:
            handle = esapi.tr_from_tpmpublic(index)
            return int.from_bytes(bytes(esapi.nv_read(handle, COUNTER_BYTES, 0, handle)))

        count: int = self._ask("read a counter", read)
        return count

    def tick(self) -> None:
        """Pay one tick, before anything is served for it."""
        self._increment(METER_INDEX)

    def end_epoch(self) -> None:
        """Invalidate every licence that was ever issued."""
        self._increment(EPOCH_INDEX)

    def _increment(self, index: int) -> None:
        def add(esapi: Any) -> None:
            handle = esapi.tr_from_tpmpublic(index)
            esapi.nv_increment(handle, handle)

        self._ask("raise a counter", add)

    def extend(self, pcr: int, event: bytes) -> None:
        """Extend a PCR with an event: what is served, or that serving ended."""
        with self._alone() as tpm:
            tpm.extend(pcr, event)

    def receipt(self, body: bytes, index: int = METER_INDEX) -> Receipt:
        """Sign the counter and the clock together with `body`."""

        def certify(esapi: Any) -> Receipt:
            with _flushing(esapi) as keep:
                session = keep(
                    esapi.start_auth_session(
                        ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, "null", TPM2_ALG.SHA256
                    )
                )
                esapi.policy_pcr(session, b"", _selection(licence.RECEIPT_PCRS))
                counter = esapi.tr_from_tpmpublic(index)
                attest, signature = esapi.nv_certify(
                    self._receipt_key(),
                    counter,
                    hashlib.sha256(body).digest(),
                    _NO_SCHEME,
                    COUNTER_BYTES,
                    0,
                    auth_handle=counter,
                    session1=session,
                )
                return Receipt(
                    body=body, attest=bytes(attest), signature=bytes(signature.marshal())
                )

        signed: Receipt = self._ask("sign a receipt", certify)
        return signed

    def enrol(self, terms: Terms, nonce: bytes) -> Enrolment:
        """Make the evidence that a custodian needs for enrolment, bound to its nonce."""
        receipt_key = self._certified_receipt_key(nonce)
        storage_key = self._certified_storage_key(nonce)
        attest, signature, values = self._quote(
            enrolment.quote_extra_data(
                nonce, terms.digest, self.receipt_key_name, sha256_name(storage_key.public)
            )
        )
        meter, epoch = (self.receipt(nonce, index) for index in _COUNTERS)
        return Enrolment(
            lease=terms.lease,
            terms=terms.digest,
            nonce=nonce,
            ak_chain=self._ak_chain(),
            quote=Signed(attest=attest, signature=signature),
            pcrs=values,
            receipt_key=receipt_key,
            storage_key=storage_key,
            meter=Signed(attest=meter.attest, signature=meter.signature),
            epoch=Signed(attest=epoch.attest, signature=epoch.signature),
        )

    def _quote(self, bound: bytes) -> tuple[bytes, bytes, dict[int, bytes]]:
        with self._alone() as tpm:
            return tpm.quote(bound)

    def _ak_chain(self) -> tuple[bytes, ...]:
        with self._alone() as tpm:
            return tpm.ak_chain()

    def _certified_receipt_key(self, nonce: bytes) -> CertifiedPublic:
        """Return the receipt key, certified by the platform's attestation key."""
        return self._certified(lambda _: self._receipt_key(), self._key_public, nonce)

    def _certified_storage_key(self, nonce: bytes) -> CertifiedPublic:
        """Return the storage key, certified by the platform's attestation key."""
        public = self._ask("read its storage key", self._storage_public)
        return self._certified(lambda esapi: esapi.tr_from_tpmpublic(STORAGE_HANDLE), public, nonce)

    def _certified(
        self, key_of: Callable[[Any], Any], public: bytes, nonce: bytes
    ) -> CertifiedPublic:
        with self._alone() as tpm:
            ak = tpm.attestation_key()

        def certify(esapi: Any) -> CertifiedPublic:
            attest, signature = esapi.certify(key_of(esapi), ak, nonce, _NO_SCHEME)
            signed = Signed(attest=bytes(attest), signature=bytes(signature.marshal()))
            return CertifiedPublic(public=public, certify=signed)

        certified: CertifiedPublic = self._ask("certify its keys", certify)
        return certified

    def evidence(self, nonce: bytes, spki: bytes, exporter: bytes, served: Served) -> Evidence:
        """Make the evidence that a client needs, bound to its nonce and its connection."""
        bound = serving.quote_extra_data(nonce, spki, exporter, served.statement)
        with self._showing:
            return self._evidence(nonce, bound, served)

    def _evidence(self, nonce: bytes, bound: bytes, served: Served) -> Evidence:
        attest, signature, values = self._quote(bound)
        receipt_key = self._certified_receipt_key(nonce)
        meter = self.receipt(bound)
        return Evidence(
            nonce=nonce,
            ak_chain=self._ak_chain(),
            quote=Signed(attest=attest, signature=signature),
            pcrs=values,
            receipt_key=receipt_key,
            meter=Signed(attest=meter.attest, signature=meter.signature),
            terms=served.terms,
            statement=served.statement,
        )

    # --- What the TPM unseals.

    def verified(self, given: Licence, custodian: "EllipticCurvePublicKey") -> bytes:
        """Return the policy digest that the custodian signed for this machine in its boot state.

        Raises RefusedError (licence.tpm) for any other licence.
        """
        digest = licence.verify(given, custodian, self.registers)
        if given.machine != self._storage_name:
            raise RefusedError("licence.tpm", "the licence is for a different machine")
        return digest

    def open(self, blob: Blob, given: Licence, custodian: "EllipticCurvePublicKey") -> bytes:
        """Unseal the TPM's half of the content key.

        Raises RefusedError (licence.tpm) for a licence that the custodian did not sign for this
        machine, and ToolError if the TPM finds that a term is not met.
        """
        digest = self.verified(given, custodian)

        def unseal(esapi: Any) -> bytes:
            # A TPM has room for three objects: flush the custodian's key before loading the next.
            ticket, name = _ticket(esapi, given, custodian, digest)
            with _flushing(esapi) as keep:
                sealed = keep(_imported(esapi, blob))
                session = keep(_salted(esapi))
                _run_terms(esapi, session, given)
                reference = licence.policy_reference(given.lease, given.terms, given.machine)
                esapi.policy_authorize(session, digest, name, ticket, reference)
                return bytes(esapi.unseal(sealed, session))

        half: bytes = self._ask("open the lease: a term of the licence is not met", unseal)
        return half


def _exists(esapi: Any, handle: int) -> bool:
    """Return whether this NV index or persistent object exists."""
    _, capability = esapi.get_capability(TPM2_CAP.HANDLES, handle, 1)
    handles = capability.data.handles
    # The TPM answers with the first handle at or above the requested one.
    return handles.count == 1 and int(handles[0]) == handle


def _selection(pcrs: tuple[int, ...]) -> str:
    return "sha256:" + ",".join(map(str, pcrs))


@contextmanager
def _flushing(esapi: Any) -> Iterator[Any]:
    """Flush every handle passed to `keep`, whatever happens."""
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
            except TSS2_Exception:
                # A session that authorised its one command is already flushed.
                continue


def _imported(esapi: Any, blob: Blob) -> Any:
    parent = esapi.tr_from_tpmpublic(STORAGE_HANDLE)
    public = _public(blob.public)
    private = esapi.import_(
        parent,
        b"",
        public,
        TPM2B_PRIVATE(buffer=blob.duplicate),
        TPM2B_ENCRYPTED_SECRET(secret=blob.seed),
        _NO_CIPHER,
    )
    return esapi.load(parent, private, public)


def _public(area: bytes) -> Any:
    public, _ = TPM2B_PUBLIC.unmarshal(len(area).to_bytes(2) + area)
    return public


def _ticket(
    esapi: Any, given: Licence, custodian: "EllipticCurvePublicKey", digest: bytes
) -> tuple[Any, Any]:
    """Have the TPM verify that the custodian signed this digest.

    Returns the TPM's ticket for that, and the Name of the custodian's key.
    """
    public = _public(keys.public_area(custodian))
    r, s = keys.signature_numbers(given.signature)
    signature = TPMT_SIGNATURE(sigAlg=TPM2_ALG.ECDSA)
    signature.signature.ecdsa.hash = TPM2_ALG.SHA256
    signature.signature.ecdsa.signatureR = r.to_bytes(32)
    signature.signature.ecdsa.signatureS = s.to_bytes(32)
    data = licence.signed_bytes(given.lease, given.terms, given.machine, digest)
    with _flushing(esapi) as keep:
        # A ticket of the NULL hierarchy proves nothing.
        key = keep(esapi.load_external(public, hierarchy=ESYS_TR.OWNER))
        ticket = esapi.verify_signature(key, hashlib.sha256(data).digest(), signature)
    return ticket, public.get_name()


def _salted(esapi: Any) -> Any:
    session = esapi.start_auth_session(
        esapi.tr_from_tpmpublic(STORAGE_HANDLE),
        ESYS_TR.NONE,
        TPM2_SE.POLICY,
        "aes128cfb",
        TPM2_ALG.SHA256,
    )
    # Without continueSession the TPM ends the session with the command that it authorises.
    esapi.trsess_set_attributes(session, TPMA_SESSION.ENCRYPT)
    return session


def _run_terms(esapi: Any, session: Any, given: Licence) -> None:
    """Run the policy commands in the order of `licence.policy_digest`."""
    bounds = given.bounds
    meter, epoch = (esapi.tr_from_tpmpublic(index) for index in _COUNTERS)
    esapi.policy_pcr(session, b"", _selection(licence.LICENCE_PCRS))
    esapi.policy_nv(meter, meter, session, bounds.budget.to_bytes(8), TPM2_EO.UNSIGNED_LT)
    esapi.policy_nv(epoch, epoch, session, bounds.epoch.to_bytes(8), TPM2_EO.EQ)
    for (offset, size), operand, operation in (
        (tpm_policy.CLOCK, bounds.clock, TPM2_EO.UNSIGNED_LT),
        (tpm_policy.RESET_COUNT, bounds.resets, TPM2_EO.UNSIGNED_LE),
        (tpm_policy.RESTART_COUNT, bounds.restarts, TPM2_EO.UNSIGNED_LE),
    ):
        esapi.policy_counter_timer(session, operand.to_bytes(size), operation, offset)
    esapi.policy_command_code(session, TPM2_CC.Unseal)
