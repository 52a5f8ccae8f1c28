from collections.abc import Callable
from typing import Any

import pytest

from aicert.appraisal.appraise import appraise
from aicert.appraisal.result import AttestationResult
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import certificate as certificates
from aicert.formats.digest import Digest
from aicert.frozen import replace
from aicert.lease import serving, terms
from aicert.lease.checks import RefusedError
from aicert.lease.terms import Terms
from tests.adversarial import ca_forge, tpm_forge
from tests.adversarial.enrolment_forge import (
    ak_certificate,
    policy,
    receipt_public,
    registers,
)
from tests.adversarial.forger import Scene
from tests.adversarial.serving_forge import (
    CHANNEL,
    EXPORTER,
    NONCE,
    SPKI,
    Machine,
    judged,
    statement,
)
from tests.vectors.leases import IMAGE, LEASE, agreed

OTHER = b"\xee" * 32
STRANGER = ca_forge.ec_key("stranger")


def of_scene(scene: Scene) -> AttestationResult:
    """Appraise a certificate as the consumer does, without the model's files."""
    certificate = certificates.parse(scene.get("file"))
    return appraise(certificate, None, scene.get("policy"), at=scene.at)


CERTIFIED = of_scene(Scene())
MODEL = (CERTIFIED.subject or {})["model"]


def leased(**changes: Any) -> Terms:
    """Return terms for the model that the certificate covers."""
    return agreed(model=Digest.parse(MODEL), **changes)


def machine(**changes: Any) -> Machine:
    return Machine(**{"of": leased(), **changes})


def test_an_honest_machine_is_served_by() -> None:
    served = judged(machine(), CERTIFIED)
    assert (served.tier, served.image, served.terms) == ("measured-vm", IMAGE, leased())
    assert (served.statement.boots, served.meter) == (3, 77)


OTHER_TERMS = leased(tick_tokens=1)


@pytest.mark.parametrize(
    ("check", "forged"),
    [
        ("serve.fresh", lambda: machine(nonce=OTHER)),
        # Evidence for another challenge under this one's nonce; a relay with its own key or with
        # the machine's stolen one; an exchanged statement.
        ("serve.channel", lambda: machine(bound=replace(CHANNEL, nonce=OTHER))),
        ("serve.channel", lambda: machine(bound=replace(CHANNEL, spki=b"relay"))),
        ("serve.channel", lambda: machine(bound=replace(CHANNEL, exporter=OTHER))),
        ("serve.channel", lambda: machine(bound_statement=b"another")),
        ("serve.chain", lambda: machine(chain=(ak_certificate(STRANGER),))),
        ("serve.quote", lambda: machine(ak=STRANGER)),
        ("serve.quote", lambda: machine(quoted={"kind": tpm_forge.CERTIFY})),
        ("serve.image", lambda: machine(values={"pcr11": OTHER})),
        ("serve.image", lambda: machine(stated={"image": None})),
        ("serve.firmware", lambda: machine(values={"pcr2": OTHER})),
        ("serve.lease", lambda: machine(of=leased(lease="0" * 32))),
        ("serve.terms", lambda: machine(terms=b"version = 1\n")),
        ("serve.terms", lambda: machine(statement=b"{}")),
        ("serve.terms", lambda: machine(terms=terms.emit(OTHER_TERMS))),
        ("serve.terms", lambda: machine(stated={"lease": "0" * 32})),
        ("serve.terms", lambda: machine(stated={"model": agreed().model})),
        ("serve.terms", lambda: machine(stated={"certificate": OTHER_TERMS.digest})),
        ("serve.model", lambda: machine(of=agreed())),
        # The model is opened but not served; another model was measured; the machine stopped; an
        # addon.
        ("serve.registers", lambda: machine(values={"pcr14": bytes(32)})),
        ("serve.registers", lambda: machine(
            values={"pcr14": serving.serving_register(terms.emit(leased()), agreed().model)}
        )),
        ("serve.registers", lambda: machine(values={"pcr8": OTHER})),
        ("serve.registers", lambda: machine(values={"pcr12": OTHER})),
        # Resumed; another key, another hierarchy, another boot; over another connection.
        ("serve.boot", lambda: machine(meter={"restart": 1})),
        ("serve.boot", lambda: machine(meter={"extra": OTHER})),
        ("serve.boot", lambda: machine(meter={"kind": tpm_forge.QUOTE})),
        ("serve.boot", lambda: machine(certified={"reset": 8})),
        ("serve.boot", lambda: machine(receipt_hierarchy=tpm_forge.RH_OWNER)),
        ("serve.boot", lambda: machine(stated={"receipt_key": "000b" + "ee" * 32})),
        ("serve.boot", lambda: machine(receipt_public=receipt_public(registers(), policy=b""))),
    ],
)  # fmt: skip
def test_a_machine_that_is_another_is_refused_by_its_check(
    check: str, forged: Callable[[], Machine]
) -> None:
    with pytest.raises(RefusedError) as refused:
        judged(forged(), CERTIFIED)
    assert refused.value.check == check


def test_serve_tier_below_the_consumers_policy() -> None:
    with pytest.raises(RefusedError, match=r"^serve\.tier: "):
        judged(machine(), CERTIFIED, rules=policy(tier="vtpm"))


def test_serve_channel_of_another_connection_is_judged_anew() -> None:
    given = machine()
    judged(given, CERTIFIED)
    for changes in ({"exporter": OTHER}, {"spki": b"relay"}):
        with pytest.raises(RefusedError, match=r"^serve\.channel: "):
            judged(given, CERTIFIED, channel=replace(CHANNEL, **changes))


def test_serve_lease_that_is_asked_for() -> None:
    with pytest.raises(RefusedError, match=r"^serve\.lease: "):
        judged(machine(), CERTIFIED, lease="0" * 32)
    assert judged(machine(), CERTIFIED, lease=LEASE).terms.lease == LEASE


def test_serve_model_of_a_certificate_of_results() -> None:
    with pytest.raises(RefusedError, match=r"^serve\.model: .*is for a run of kind audit"):
        judged(machine(), replace(CERTIFIED, kind="audit"))
    for kind in ("merge", "quantise", "convert"):
        judged(machine(), replace(CERTIFIED, kind=kind))


def test_serve_model_of_a_certificate_that_does_not_pass() -> None:
    worse = replace(
        CERTIFIED,
        checks=tuple(
            replace(one, verdict="failed") if one.id == "quote.nonce" else one
            for one in CERTIFIED.checks
        ),
    )
    with pytest.raises(RefusedError, match=r"^serve\.model: .*does not pass: quote\.nonce"):
        judged(machine(), worse)
    open_ = replace(
        CERTIFIED,
        checks=tuple(
            replace(one, verdict="not-checked") if one.id == "quote.nonce" else one
            for one in CERTIFIED.checks
        ),
    )
    with pytest.raises(UndecidedError, match="no verdict on the certificate"):
        judged(machine(), open_)


def test_what_is_measured_is_what_anybody_can_compute() -> None:
    text = terms.emit(leased())
    assert serving.events(text, leased().model) == [
        text, f"model {MODEL}\n".encode(), b"serving\n",
    ]  # fmt: skip
    assert serving.stopped_event("revoked") == b"stopped revoked\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"boots":3', b'"boots":0', "out of range"),
        (b'"boots":3', b'"boots": 3', "not in canonical form"),
        (b'"boots":3', b'"boots":3,"note":1', "unknown key 'note'"),
        (b'"receiptKey":"', b'"receiptKey":"00', "not in canonical form"),
        (b'"lease":"7', b'"lease":"G', "not 32 hexadecimal digits"),
        (b'"image":"sha256', b'"image":"md5', "not a digest"),
    ],
)
def test_a_statement_has_one_form(old: bytes, new: bytes, message: str) -> None:
    data = serving.emit_statement(statement(leased()))
    assert serving.parse_statement(data) == statement(leased())
    assert old in data
    with pytest.raises(EvidenceError, match=message):
        serving.parse_statement(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"nonce":"11', b'"nonce":"', "not 64 hexadecimal digits"),
        (b'"quote":', b'"note":1,"quote":', "unknown key 'note'"),
        (b'"quote":', b'"quote": ', "not in canonical form"),
        (b'"15":"', b'"16":"', "pcrs.15 is missing"),
    ],
)
def test_evidence_has_one_form(old: bytes, new: bytes, message: str) -> None:
    data = serving.emit(machine().signed())
    assert old in data
    with pytest.raises(EvidenceError, match=message):
        serving.parse(data.replace(old, new, 1))


def test_a_channel_binds_whole_values() -> None:
    for nonce, exporter in ((NONCE[1:], EXPORTER), (NONCE, EXPORTER[1:])):
        with pytest.raises(EvidenceError, match="32 bytes each"):
            serving.quote_extra_data(nonce, SPKI, exporter, b"")
