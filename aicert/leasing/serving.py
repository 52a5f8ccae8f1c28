"""Appraise a serving machine (serve.*) for a consumer, before any part of a prompt is sent.

`appraise` returns a Served only if every check is ok, and only for one connection: another
connection is judged again. What the consumer knows is passed as arguments: the nonce, the TLS key
and exporter at the consumer's end of the connection, the lease, and the appraisal, under the
consumer's own policy, of the certificate whose model the consumer wants to talk to.
"""

from datetime import datetime

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.policy import FIRMWARE_PCRS, Policy
from aicert.appraisal.result import MODELS, AttestationResult
from aicert.errors import EvidenceError, LockError, UndecidedError
from aicert.formats import tpm
from aicert.formats.image_lock import ImageLock
from aicert.frozen import dataclass
from aicert.lease import licence, receipts, serving
from aicert.lease import terms as lease_terms
from aicert.lease.checks import RefusedError, checking
from aicert.lease.receipts import Receipt
from aicert.lease.serving import Evidence, Statement
from aicert.lease.terms import Terms
from aicert.leasing import machines


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """The consumer's end of a connection.

    `nonce`: the consumer's. `spki`: the machine's SubjectPublicKeyInfo (DER), as the handshake
    showed it. `exporter`: the TLS exporter with serving.EXPORTER_LABEL.
    """

    nonce: bytes
    spki: bytes
    exporter: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was verified about a machine; prompts may be sent over its connection."""

    tier: str
    root: str
    image: ImageLock | None
    terms: Terms
    statement: Statement
    meter: int


def appraise(
    given: Evidence,
    channel: Channel,
    policy: Policy,
    *,
    lease: str,
    certified: AttestationResult,
    at: datetime,
) -> Served:
    """Return what was verified about the machine at the other end, if every check is ok.

    Raises RefusedError or UndecidedError otherwise.
    """
    if given.nonce != channel.nonce:
        raise RefusedError("serve.fresh", "the evidence answers a different nonce")
    ak = machines.platform(given.ak_chain, policy, at, machines.SERVE)
    quote = machines.quoted(given.quote, given.pcrs, ak, machines.SERVE)
    bound = serving.quote_extra_data(channel.nonce, channel.spki, channel.exporter, given.statement)
    if quote.extra_data != bound:
        raise RefusedError(
            "serve.channel",
            "the quote does not bind this nonce, key, connection and statement: somebody is "
            "between you and the machine, or the evidence is another machine's",
        )
    image = machines.booted(given.pcrs, ak, policy, machines.SERVE)
    with checking("serve.terms"):
        statement = serving.parse_statement(given.statement)
        terms = _terms(given.terms)
    if terms.lease != lease:
        raise RefusedError("serve.lease", f"the machine serves lease {terms.lease}, not {lease}")
    _check_terms(statement, terms, image)
    _check_model(terms, certified)
    _check_registers(given, terms)
    with checking("serve.boot"):
        meter = _check_boot(given, statement, image, bound, ak, quote)
    return Served(
        tier=ak.root.tier,
        root=ak.root.name,
        image=image,
        terms=terms,
        statement=statement,
        meter=meter,
    )


def _terms(data: bytes) -> Terms:
    try:
        return lease_terms.parse(data)
    except LockError as error:
        raise RefusedError("serve.terms", error.message) from None


def _check_terms(statement: Statement, terms: Terms, image: ImageLock | None) -> None:
    """Check that the statement repeats the terms that were shown and the image that booted."""
    wanted = (terms.lease, terms.digest, terms.model, terms.certificate)
    stated = (statement.lease, statement.terms, statement.model, statement.certificate)
    if stated != wanted:
        raise RefusedError(
            "serve.terms", "the statement names different terms from those it carries"
        )
    if statement.image != (None if image is None else image.digest):
        raise RefusedError(
            "serve.image", "the statement names a different image from the one that booted"
        )


def _check_model(terms: Terms, certified: AttestationResult) -> None:
    if certified.certificate_consistent != "yes":
        if certified.failed:
            first = certified.failed[0]
            raise RefusedError("serve.model", f"the certificate does not pass: {first.id}")
        raise UndecidedError(
            "serve.model: there is no verdict on the certificate",
            hint="aicert verify CERTIFICATE    # with the same policy: says what is missing",
        )
    if certified.kind not in MODELS:
        raise RefusedError("serve.model", f"the certificate is for a run of kind {certified.kind}")
    subjects = (certified.subject or {}).values()
    if str(terms.model) not in subjects:
        raise RefusedError(
            "serve.model",
            f"the machine serves a different model from the one in the certificate\n"
            f"found     {terms.model}\nexpected  {', '.join(subjects)}",
        )


def _check_registers(given: Evidence, terms: Terms) -> None:
    idle = tuple(index for index in licence.ZERO_PCRS if index != licence.SERVING_PCR)
    machines.require_zero(given.pcrs, idle, "serve.registers")
    expected = serving.serving_register(given.terms, terms.model)
    quoted = given.pcrs[licence.SERVING_PCR]
    if quoted != expected:
        raise RefusedError(
            "serve.registers",
            "the machine did not measure that it serves this model under these terms\n"
            f"quoted    PCR 14 sha256:{quoted.hex()}\nexpected  PCR 14 sha256:{expected.hex()}",
        )


def _check_boot(
    given: Evidence,
    statement: Statement,
    image: ImageLock | None,
    bound: bytes,
    ak: CertifiedKey,
    quote: tpm.Quote,
) -> int:
    """Return the meter, as the receipt key shows it in this boot of the image.

    Raises EvidenceError if the TPM was resumed since, or if the key is another.
    """
    values = licence.registers({i: given.pcrs[i] for i in FIRMWARE_PCRS}, image)
    key = receipts.check_receipt_key(given.receipt_key.public, values)
    machines.certified(given.receipt_key, ak, quote, given.nonce, receipts.RH_ENDORSEMENT)
    if statement.receipt_key != key.name.hex():
        raise EvidenceError("the statement names a different receipt key")
    receipt = Receipt(body=bound, attest=given.meter.attest, signature=given.meter.signature)
    try:
        return receipts.verify(receipt, key, licence.METER_INDEX).value
    except RefusedError as error:
        raise EvidenceError(error.message) from None
