"""The numbers in a time stamp: its fraction, its accuracy, and in which direction they count."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aicert.appraisal.evidence import time_token, trusted_time
from aicert.errors import EvidenceError
from aicert.formats.der import Der
from tests.adversarial.attacks_time import accuracy, earlier
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import BEFORE, Token

NOON = datetime(2026, 8, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [
        (b"", 0),
        (b".5", 500_000),
        (b".05", 50_000),
        (b".123456", 123_456),
        (b".1234567", 123_456),
    ],
)
def test_a_fraction_is_of_a_second(fraction: bytes, microseconds: int) -> None:
    read = time_token._time(b"20260821120000" + fraction + b"Z")
    assert read == NOON.replace(microsecond=microseconds)


@pytest.mark.parametrize("year", time_token.YEARS)
def test_the_first_and_the_last_year_are_read(year: int) -> None:
    assert time_token._time(b"%04d0821120000Z" % year).year == year


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ({"seconds": 0}, timedelta()),
        ({"millis": 1}, timedelta(milliseconds=1)),
        ({"millis": 999, "micros": 1}, timedelta(milliseconds=999, microseconds=1)),
        ({"micros": 999}, timedelta(microseconds=999)),
        ({"seconds": 2, "millis": 5, "micros": 7}, timedelta(seconds=2, microseconds=5007)),
        ({"seconds": time_token.MAX_ACCURACY}, timedelta(days=1)),
    ],
)
def test_an_accuracy_is_the_sum_of_its_parts(parts: dict[str, int], wanted: timedelta) -> None:
    assert time_token._accuracy(Der(accuracy(**parts), "it").inside(0x30)) == wanted


@pytest.mark.parametrize("part", ["millis", "micros"])
@pytest.mark.parametrize("number", [-1, 0, 1000])
def test_a_fraction_of_an_accuracy_is_1_to_999(part: str, number: int) -> None:
    content = Der(accuracy(**{part: number}), "it").inside(0x30)
    with pytest.raises(EvidenceError, match=r"^TSTInfo: a fraction of its accuracy is not 1 to"):
        time_token._accuracy(content)


def test_what_is_less_sure_began_earlier() -> None:
    scene = Scene("cloud", 2)
    earlier(lambda token: token.with_(accuracy=accuracy(seconds=90)))(scene)
    check = next(one for one in scene.appraise().checks if one.id == "time.not-before")
    assert check.verdict == "ok"
    began = (BEFORE - timedelta(seconds=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert check.detail == f"the machine answered after {began} (time of test time)"


def test_an_age_that_a_time_stamp_shows_may_be_as_great_as_the_policy_allows() -> None:
    scene = Scene("cloud", 2)
    earlier(lambda token: token)(scene)
    scene.edit("policy", lambda policy: replace(policy, max_age_days=30))
    began = scene.appraise().check("time.not-before").detail.split(" ")[4]
    for late, verdict in ((timedelta(), "ok"), (timedelta(seconds=1), "not-checked")):
        scene.at = datetime.fromisoformat(began) + timedelta(days=30) + late
        assert scene.appraise().check("policy.age").verdict == verdict


def test_a_policy_may_require_a_time_and_name_nobody_who_tells_it() -> None:
    scene = Scene("cloud", 2)
    scene.edit("policy", lambda policy: replace(policy, require=frozenset(("time",))))
    assert scene.appraise().check("time.token").verdict == "not-checked"


@pytest.mark.parametrize("text", ["", "MAA", "MA==x", " MA==", "MB==", "M" * (2 * 16384 + 4)])
def test_a_token_has_one_encoding(text: str) -> None:
    assert trusted_time.decode("rfc3161:MA==") == b"0"
    with pytest.raises(EvidenceError, match=r"^a time stamp is not rfc3161:BASE64, or too long$"):
        trusted_time.decode(f"rfc3161:{text}")
    with pytest.raises(EvidenceError, match="is not rfc3161:BASE64"):
        trusted_time.decode("MA==")


def test_an_entry_is_read_as_it_is_written() -> None:
    token = Token(digest=bytes(32)).der()
    assert trusted_time.encode(token) == f"rfc3161:{base64.b64encode(token).decode()}"
    assert trusted_time.decode(trusted_time.encode(token)) == token
    entry = trusted_time.encode_not_before(b"\1" * 32, token)
    assert trusted_time.decode_not_before(entry) == (b"\1" * 32, "rfc3161:", token)
    with pytest.raises(EvidenceError, match="is not not-before:HEX:rfc3161:BASE64"):
        trusted_time.decode_not_before(entry.removeprefix("not-before:"))


def test_what_a_token_says_is_read_whether_or_not_its_signer_is_known() -> None:
    token = trusted_time.read_signed(Token(digest=bytes(32)).der())
    assert token.nonce is None
    assert token.imprint == ("sha256", "00" * 32)
