"""Which of several witnesses' times counts, and how a verdict reports logs."""

from datetime import UTC, datetime, timedelta

import pytest

from aicert.appraisal.evidence import tlog
from aicert.appraisal.policy import Policy
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import Certificate
from aicert.frozen import replace
from aicert.tlog.checkpoints import TIMES
from aicert.tlog.notes import Note
from tests.adversarial.attacks_log import A, B, C, believes, earlier, logged, proven, seen
from tests.adversarial.attacks_time import IN_TEN_YEARS, both, stamped
from tests.adversarial.ca_forge import AT
from tests.adversarial.forger import Scene
from tests.adversarial.log_forge import SEEN, WITNESSES, Logged, seconds

MINUTE = timedelta(minutes=1)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
# One witness reports a time long before the others, and one a time long after.
SPREAD = {A: seconds(LONG_AGO), B: seconds(SEEN), C: seconds(SEEN + MINUTE)}


def policy(*by: str, quorum: int = 0) -> Policy:
    scene = Scene()
    believes(*by, quorum=quorum)(scene)
    given: Policy = scene.get("policy")
    return given


def note(times: dict[str, int]) -> Note:
    logged = Logged(entry=b"x")
    lines = "".join(logged.cosigned(name, time) for name, time in times.items())
    return Note.parse(logged.with_(lines=lines).checkpoint())


@pytest.mark.parametrize(
    ("quorum", "existed", "began"),
    [
        (1, LONG_AGO, SEEN + MINUTE),
        (2, SEEN, SEEN),
        (3, SEEN + MINUTE, LONG_AGO),
        (0, SEEN + MINUTE, LONG_AGO),
    ],
)
def test_the_time_is_one_for_which_so_many_stand(
    quorum: int, existed: datetime, began: datetime
) -> None:
    given = policy(*WITNESSES, quorum=quorum)
    assert tlog._quorum(note(SPREAD), given, AT, earliest=True)[0] == existed
    assert tlog._quorum(note(SPREAD), given, AT, earliest=False)[0] == began


def test_only_those_are_named_whose_time_it_is() -> None:
    assert tlog._quorum(note(SPREAD), policy(*WITNESSES, quorum=2), AT, earliest=True)[1] == (
        "witnesses witness-a, witness-b"
    )
    assert tlog._quorum(note(SPREAD), policy(C), AT, earliest=True)[1] == "witness witness-c"


@pytest.mark.parametrize("time", [TIMES[0], TIMES[1]])
def test_the_first_and_the_last_time_are_read(time: int) -> None:
    late = datetime(9998, 12, 31, tzinfo=UTC)
    read, _ = tlog._quorum(note({A: time}), policy(A), late, earliest=True)
    assert seconds(read) == time
    assert read.year == (2001 if time == TIMES[0] else 9998)


@pytest.mark.parametrize("time", [0, TIMES[0] - 1, TIMES[1] + 1])
def test_other_times_are_none(time: int) -> None:
    with pytest.raises(EvidenceError, match="the cosignature of witness-a has no real time"):
        tlog._quorum(note({A: time}), policy(A), AT, earliest=True)


def test_a_day_is_how_much_clocks_differ() -> None:
    ahead = seconds(AT + timedelta(hours=24))
    tlog._quorum(note({A: ahead}), policy(A), AT, earliest=True)
    with pytest.raises(UndecidedError, match="after the time of appraisal"):
        tlog._quorum(note({A: ahead + 1}), policy(A), AT, earliest=True)


def test_a_verdict_names_what_it_rests_on() -> None:
    scene = Scene()
    seen(A, B, by=(A, B))(scene)
    trusts = scene.appraise().trusts
    assert "log log-aicert: that it shows this entry to everybody who looks for it" in trusts
    assert [
        text for text in trusts if text.startswith("witnesses witness-a, witness-b: that not all")
    ]
    plain = Scene()
    both(believes(), proven())(plain)
    assert not [text for text in plain.appraise().trusts if text.startswith("witness")]


def test_what_no_check_reads_is_omitted_in_words() -> None:
    for change, unread in (
        (logged(), 0),
        (proven(), 1),
        (both(believes(A), proven()), 0),
        (both(earlier(), believes(logs=())), 1),
        (both(earlier(), believes(A, logs=())), 0),
        (both(stamped(), logged()), 0),
    ):
        scene = Scene()
        change(scene)
        words = [text for text in scene.appraise().omits if text.startswith("evidence.timestamps")]
        assert len(words) == (unread > 0), words


def test_a_policy_that_asks_for_a_log_and_names_none_gets_no_verdict() -> None:
    """Policy files refuse this; somebody who makes a policy in Python may forget the log."""
    scene = Scene()
    both(believes(logs=()), proven())(scene)
    scene.edit("policy", lambda one: replace(one, require=frozenset(("log",))))
    result = scene.appraise()
    assert result.verdict == "none"
    assert result.undecided[0].id == "log.included"


@pytest.mark.parametrize("kept", [("tlog-proof:",), ("rfc3161:",), ("tlog-proof:", "rfc3161:"), ()])
def test_in_ten_years_a_certificate_is_verified_by_what_it_carries(kept: tuple[str, ...]) -> None:
    """The chains of AK and authority have expired, and the log of these keys may be gone.

    With a time stamp or a cosigned proof the certificate passes; without either it fails.
    """
    scene = Scene(version=2)
    both(stamped(), logged(lambda one: one.with_(by=(A, B)), A, B))(scene)

    def without(certificate: Certificate) -> Certificate:
        left = [one for one in certificate.evidence.timestamps if one.startswith(kept)]
        evidence = replace(certificate.evidence, timestamps=tuple(left))
        return replace(certificate, evidence=evidence)

    scene.edit("certificate", without)
    scene.at = IN_TEN_YEARS
    result = scene.appraise()
    assert result.verdict == ("passed" if kept else "failed")
    assert [check.id for check in result.failed] == ([] if kept else ["platform.chain"])
