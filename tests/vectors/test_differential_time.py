"""Two readers of time stamps that share no code give one verdict on odd and invalid forms.

`trusted_time` and `tests.second.time` judge whole tokens: signed again by the Forger after a change
inside, and with octets changed at random. Each run draws the same changes.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from aicert.appraisal.evidence import trusted_time
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import RFC3161
from tests.adversarial import attacks_time
from tests.adversarial.attacks import Attack
from tests.adversarial.ca_forge import rsa_key
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import (
    CERTIFICATE_V2,
    HASHES,
    MADE,
    STAMPING,
    Token,
    algorithm,
    attribute,
    integer,
    oid,
    sequence,
    tlv,
)
from tests.second import time as second_time
from tests.second.chain import NoError, OpenError
from tests.vectors.test_differential import changed_bytes

DIGEST = bytes(range(32))
ROUNDS = 400


def ours(token: bytes, honest: Token) -> object:
    try:
        stamped, _ = trusted_time.verify(token, [honest.authority()])
    except UndecidedError:
        return "open"
    except EvidenceError:
        return "no"
    return stamped.imprint, stamped.time, stamped.accuracy


def theirs(token: bytes, honest: Token) -> object:
    authority: dict[str, Any] = {"certificate": honest.root()}
    try:
        kind, value, time, accuracy = second_time.judge(token, [authority])
    except OpenError:
        return "open"
    except NoError:
        return "no"
    return (kind, value.hex()), time, accuracy


@pytest.mark.parametrize("row", attacks_time.FORMS, ids=lambda row: row.name)
def test_a_form_that_nothing_else_has_is_refused_by_both(row: Attack) -> None:
    scene = Scene(row.kind, row.version)
    row.change(scene)
    failed = [check.id for check in scene.appraise().checks if check.verdict == "failed"]
    assert failed == [row.check]
    (entry,) = scene.get("certificate").evidence.timestamps
    with pytest.raises(NoError):
        second_time.judge(
            second_time.token_of(entry.removeprefix(RFC3161)), [{"certificate": Token().root()}]
        )


def token_again(rng: random.Random) -> tuple[bytes, Token]:
    honest = Token(digest=DIGEST)
    return changed_bytes(honest.der(), rng), honest


def content_again(rng: random.Random) -> tuple[bytes, Token]:
    more = integer(2**64) + tlv(0xA1, sequence(oid(STAMPING), tlv(4, b"x")))
    honest = Token(digest=DIGEST, accuracy=attacks_time.accuracy(1, 5, 7), more_info=more)
    return honest.with_(content=changed_bytes(honest.info(), rng)).der(), honest


def attributes_again(rng: random.Random) -> tuple[bytes, Token]:
    honest = Token(digest=DIGEST, key=rsa_key("time authority"))
    attributes = list(honest.signed_attributes())
    place = rng.randrange(len(attributes))
    attributes[place] = changed_bytes(attributes[place], rng)
    return honest.with_(attributes=tuple(attributes)).der(), honest


def certificate_again(rng: random.Random) -> tuple[bytes, Token]:
    honest = Token(digest=DIGEST, middle=({"name": "time CA"},))
    (middle,) = honest.intermediates()
    return honest.der().replace(middle, changed_bytes(middle, rng)), honest


CHANGES = (token_again, content_again, attributes_again, certificate_again)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_both_say_the_same_of_what_was_changed_at_random(
    change: Callable[[random.Random], tuple[bytes, Token]],
) -> None:
    outcomes = set()
    for number in range(ROUNDS):
        token, honest = change(random.Random(number))  # noqa: S311 - the same everywhere
        outcome = ours(token, honest)
        assert outcome == theirs(token, honest), number
        outcomes.add(outcome if isinstance(outcome, str) else "yes")
    assert outcomes >= {"no"}


def test_both_accept_what_was_not_changed() -> None:
    honest = Token(digest=DIGEST, accuracy=attacks_time.accuracy(1, 5, 7))
    outcome = ours(honest.der(), honest)
    assert outcome == theirs(honest.der(), honest)
    assert isinstance(outcome, tuple)
    assert outcome[:2] == (("sha256", DIGEST.hex()), MADE)


@pytest.mark.parametrize(("name", "outcome"), [("sha512", True), ("sha1", False)])
def test_a_certificate_may_be_named_by_another_hash(name: str, outcome: bool) -> None:
    honest = Token(digest=DIGEST)
    digest = hashlib.new(name, honest.certificate()).digest()
    named = sequence(sequence(sequence(algorithm(HASHES[name][0]), tlv(4, digest))))
    attributes = (*honest.signed_attributes()[:2], attribute(CERTIFICATE_V2, named))
    token = honest.with_(attributes=attributes).der()
    assert ours(token, honest) == theirs(token, honest)
    assert isinstance(ours(token, honest), tuple) is outcome
