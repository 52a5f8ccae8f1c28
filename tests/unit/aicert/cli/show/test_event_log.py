import hashlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.cli.show import event_log
from aicert.errors import EvidenceError
from tests.fuzz import event_logs as make
from tests.unit.genuine import FOLDER

VECTORS = FOLDER / "tcg-eventlogs"
LOGS = (
    "arch-linux-workstation",
    "cos-85-amd-sev",
    "debian-10",
    "eventlogwithsp800155",
    "gdc-host",
    "rhel8-uefi",
    "ubuntu-1804-amd-sev",
    "ubuntu-2104-no-dbx",
)


def real_log(name: str) -> bytes:
    if not VECTORS.is_dir():
        pytest.skip("the real boot logs are not here (AICERT_VECTORS)")
    return (VECTORS / f"{name}.bin").read_bytes()


def refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        event_log.parse(data)


@pytest.mark.parametrize("name", LOGS)
def test_real_logs_replay_to_the_values_their_machines_had(name: str) -> None:
    log = event_log.parse(real_log(name))
    expected = json.loads((VECTORS / "expected-pcrs.json").read_text())[f"{name}.bin"]
    assert expected
    for bank, registers in expected.items():
        values = event_log.replay(log, bank)
        assert values == {int(pcr): bytes.fromhex(value) for pcr, value in registers.items()}


def test_a_real_startup_locality_is_pcr_0s_first_value() -> None:
    assert event_log.parse(real_log("gdc-host")).startup_locality == 3


@pytest.mark.parametrize(("name", "on"), [("rhel8-uefi", True), ("gdc-host", False)])
def test_secure_boot_of_real_machines(name: str, on: bool) -> None:
    log = event_log.parse(real_log(name))
    assert event_log.secure_boot(log, "sha256", event_log.replay(log, "sha256")) is on


def test_a_real_log_cut_anywhere_replays_differently_or_is_refused() -> None:
    data = real_log("arch-linux-workstation")
    whole = event_log.replay(event_log.parse(data), "sha256")
    for end in range(0, len(data), 97):
        try:
            values = event_log.replay(event_log.parse(data[:end]), "sha256")
        except EvidenceError:
            continue
        assert values != whole


def test_replay_computed_by_hand() -> None:
    log = event_log.parse(make.spec_id() + make.event(8, make.IPL, b"a") + make.event(8, 5, b"b"))
    for bank, size in (("sha1", 20), ("sha256", 32)):
        one = hashlib.new(bank, bytes(size) + hashlib.new(bank, b"a").digest()).digest()
        two = hashlib.new(bank, one + hashlib.new(bank, b"b").digest()).digest()
        assert event_log.replay(log, bank) == {8: two}


def test_no_action_is_never_extended_and_may_name_no_register() -> None:
    log = event_log.parse(make.spec_id() + make.event(0xFFFFFFFF, make.NO_ACTION, b"x"))
    assert event_log.replay(log, "sha256") == {}
    assert len(log.events) == 1


def test_resettable_registers_are_not_replayed() -> None:
    log = event_log.parse(make.spec_id() + make.event(16, make.IPL, b"x"))
    assert event_log.replay(log, "sha1") == {}


@pytest.mark.parametrize("value", [0, 3, 4])
def test_startup_locality_is_the_last_byte_of_the_first_value(value: int) -> None:
    log = event_log.parse(make.spec_id() + make.locality(value) + make.event(0, 8, b"v"))
    first = bytes(31) + bytes([value])
    assert event_log.replay(log, "sha256") == {
        0: hashlib.sha256(first + hashlib.sha256(b"v").digest()).digest()
    }


LATE = "^event log: StartupLocality is repeated, late or not in PCR 0$"


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([make.locality(3), make.locality(3)], LATE),
        ([make.event(0, 8, b"v"), make.locality(3)], LATE),
        ([make.locality(3, pcr=1)], LATE),
        ([make.locality(1)], "^event log: StartupLocality is not 0, 3 or 4$"),
        ([make.event(0, make.NO_ACTION, b"StartupLocality\0")], "not 0, 3 or 4"),
        ([make.event(0, make.NO_ACTION, b"StartupLocality\0\x03\0")], "not 0, 3 or 4"),
        ([make.event(24, make.IPL, b"")], "no PCR 24"),
        ([make.event(0xFFFFFFFF, make.IPL, b"")], "no PCR"),
        ([struct.pack("<III", 1, 4, 0)], "0 digests, not 1 to 2"),
        ([make.event(1, 4, b"", algorithms=(0x0004, 0x000B, 0x000C))], "3 digests, not 1 to 2"),
        ([make.event(1, 4, b"", algorithms=(0x000B, 0x000B))], "undeclared or repeated"),
        ([make.event(1, 4, b"", algorithms=(0x0004, 0x000C))], "undeclared or repeated"),
        ([make.event(1, 4, b"abc")[:-1]], "^event log ends early, at byte [0-9]+$"),
        ([make.event(1, 4, b"abc"), b"\0"], "ends early"),
        ([struct.pack("<III", 1, 4, 2**32 - 1)], "4294967295 digests"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_events(events: list[bytes], message: str) -> None:
    refused(make.spec_id() + b"".join(events), message)


def test_events_that_carry_fewer_digests_than_were_declared() -> None:
    # As Windows writes them: the Spec ID event declares SHA-1 as well.
    only = [make.event(1, 4, data, algorithms=(0x000B,)) for data in (b"a", b"b")]
    log = event_log.parse(make.spec_id() + b"".join(only))
    assert log.banks == ("sha256",)
    first = hashlib.sha256(bytes(32) + hashlib.sha256(b"a").digest()).digest()
    second = hashlib.sha256(first + hashlib.sha256(b"b").digest()).digest()
    assert event_log.replay(log, "sha256") == {1: second}
    with pytest.raises(EvidenceError, match="no sha1 bank"):
        event_log.replay(log, "sha1")
    # A bank that one event lacks cannot be replayed, whatever the other events have.
    mixed = event_log.parse(make.spec_id() + make.event(1, 4, b"a") + only[1])
    assert mixed.banks == ("sha256",)
    apart = event_log.parse(make.spec_id() + make.event(1, 4, b"a", algorithms=(0x0004,)) + only[1])
    assert apart.banks == ()


def test_the_buffer_of_a_trust_domains_log_is_filled_with_ones() -> None:
    # Data may end like the filler, and an informative event names no register.
    only = (0x000C,)
    events = (
        make.event(1, make.IPL, b"a\xff\xff", algorithms=only),
        make.event(0xFFFFFFFF, make.NO_ACTION, b"\xff" * 9, algorithms=only),
    )
    bare = event_log.parse(make.ccel(*events, size=0))
    assert len(bare.events) == 2
    assert event_log.parse(make.ccel(*events)) == bare
    assert event_log.parse(make.ccel()).events == ()
    refused(make.ccel(*events, filler=b"\0"), "an event has 0 digests")
    refused(make.ccel(*events) + b"\0", "there is no PCR 4294967295")
    refused(make.ccel(*events, size=0)[:-1], "ends early")
    # A TPM's log has no such filler at its end.
    refused(make.spec_id() + make.event(1, 4, b"a") + b"\xff" * 64, "there is no PCR")
    refused(make.spec_id() + b"\xff", "ends early")


NO_SPEC_ID = "^event log: Spec ID Event03 is not in PCR 0 or 1, or has a digest$"
TRAILING = "^event log: Spec ID Event03 has trailing bytes$"


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (make.spec_id({}), "declares 0 algorithms"),
        (make.spec_id({0x000B: 32}, count=9), "declares 9 algorithms"),
        (make.spec_id({0x000B: 32}, count=2**32 - 1), "declares 4294967295"),
        (make.spec_id({0x000B: 20}), "of 20 bytes"),
        (make.spec_id({0x7777: 0}), "of 0 bytes"),
        (make.spec_id({0x7777: 65}), "of 65 bytes"),
        (
            make.legacy(
                0, 3, bytes(20), make.spec_id_data({0x000B: 32}, count=2)[:-1] + b"\x0b\0 \0\0"
            ),
            "is repeated",
        ),
        (make.legacy(0, 3, bytes(20), make.spec_id_data({0x000B: 32}) + b"\0"), TRAILING),
        (make.legacy(2, 3, bytes(20), make.spec_id_data({0x000B: 32})), NO_SPEC_ID),
        (make.legacy(0, 3, bytes(19) + b"1", make.spec_id_data({0x000B: 32})), NO_SPEC_ID),
        (make.legacy(0, 3, bytes(20), b"Spec ID Event03\0"), "ends early"),
        (b"", "ends early"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_first_event(first: bytes, message: str) -> None:
    refused(first, message)


def test_the_older_format_is_sha1_throughout() -> None:
    digest = hashlib.sha1(b"v", usedforsecurity=False).digest()
    log = event_log.parse(make.legacy(0, 8, digest, b"v") + make.legacy(0, 4, digest, b"w"))
    assert log.banks == ("sha1",)
    assert [event.covered_by("sha1") for event in log.events] == [True, False]
    with pytest.raises(EvidenceError, match="no sha256 bank, it has sha1"):
        event_log.replay(log, "sha256")


@pytest.mark.parametrize(
    ("kind", "data"),
    [(make.NO_ACTION, b"x"), (make.IPL, make.spec_id_data({0x000B: 32}))],
    ids=["no action", "what only looks like a Spec ID"],
)
def test_only_a_spec_id_begins_the_newer_format(kind: int, data: bytes) -> None:
    first = make.legacy(0, kind, bytes(20), data)
    log = event_log.parse(first + make.legacy(1, make.IPL, bytes(20), b""))
    assert log.banks == ("sha1",)
    assert [(event.pcr, event.type, event.data) for event in log.events] == [
        (0, kind, data),
        (1, make.IPL, b""),
    ]


def test_as_many_and_as_large_digests_as_there_are() -> None:
    every = {number: size for number, (_, size) in event_log.ALGORITHMS.items()}
    log = event_log.parse(make.spec_id(every))
    assert log.banks == tuple(name for name, _ in event_log.ALGORITHMS.values())
    for size in (1, 64):
        entry = struct.pack("<III", 23, 4, 1) + b"\x77\x77" + b"d" * size + make.sized(b"")
        (event,) = event_log.parse(make.spec_id({0x7777: size}) + entry).events
        assert (event.pcr, event.digests) == (23, {"0x7777": b"d" * size})


def test_the_banks_that_there_are_are_named() -> None:
    with pytest.raises(EvidenceError, match=r"no sha384 bank, it has sha1, sha256$"):
        event_log.replay(event_log.parse(make.spec_id()), "sha384")


def test_an_unknown_algorithm_is_carried_but_not_replayed() -> None:
    first = make.spec_id({0x7777: 2})
    log = event_log.parse(first + struct.pack("<III", 1, 4, 1) + b"\x77\x77ab" + make.sized(b""))
    assert log.banks == ("0x7777",)
    with pytest.raises(EvidenceError, match="0x7777 is not a hash algorithm"):
        event_log.replay(log, "0x7777")


def test_bounds() -> None:
    refused(bytes(event_log.MAX_BYTES + 1), "larger than")
    room = event_log.MAX_BYTES - len(make.spec_id() + make.event(1, 4, b""))
    for more in (0, 1):
        data = make.spec_id() + make.event(1, 4, bytes(room + more))
        if more:
            refused(data, "^event log is larger than 1048576 bytes$")
        else:
            assert len(event_log.parse(data).events) == 1
    tiny = make.event(1, 4, b"")
    assert len(event_log.parse(make.spec_id() + tiny * event_log.MAX_EVENTS).events) == 10_000
    refused(make.spec_id() + tiny * (event_log.MAX_EVENTS + 1), "more than 10000 events")


def explained(*events: bytes) -> list[str | None]:
    log = event_log.parse(make.spec_id() + b"".join(events))
    facts = event_log.explain(log, "sha256", event_log.replay(log, "sha256"))
    return [fact.text for fact in facts]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"grub: linux\0", "grub: linux"),
        ("Firmware v1".encode("utf-16-le") + b"\0\0", "Firmware v1"),
        (bytes(4), "separator"),
        (b"", "0 bytes"),
        (b"\x1b[31mred", "8 bytes"),
        (b"a\nok  platform.chain", "20 bytes"),
        (b"\xff", "1 bytes"),
        (b"\x00\xd8", "2 bytes"),
        (b"\\x1b 'quoted'", "\\x1b 'quoted'"),
        (make.variable("db", b"1234"), "variable db, 4 bytes"),
        (make.variable("x", b""), "variable x, 0 bytes"),
        (make.variable("\x1b[2J", b""), "variable \\x1b[2J, 0 bytes"),
        (make.variable("\N{RIGHT-TO-LEFT OVERRIDE}", b""), "variable \\u202e, 0 bytes"),
        (make.variable("", b"x"), "33 bytes"),
        (make.variable("db", b"1") + b"x", "38 bytes"),
        (make.GLOBAL_VARIABLE + struct.pack("<QQ", 1, 0) + b"\x00\xd8", "34 bytes"),
        (make.GLOBAL_VARIABLE + struct.pack("<QQ", 2**63, 2**63) + b"\x01", "33 bytes"),
        (make.GLOBAL_VARIABLE + struct.pack("<QQ", 2**64 - 1, 3) + b"\x01", "33 bytes"),
    ],
)
def test_what_covered_data_is_shown_as(data: bytes, text: str) -> None:
    assert explained(make.event(8, make.IPL, data)) == [text]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a" * 200, "a" * 200),
        (b"a" * 1000, "a" * 199 + "…"),
        (make.variable("☃" * 150, b""), "variable " + "☃" * 150 + ", 0 bytes"),
        (make.variable("\N{HANGUL FILLER}" * 150, b""), "variable " + "\\u3164" * 31 + "…"),
    ],
)
def test_shown_text_is_short(data: bytes, text: str) -> None:
    assert explained(make.event(8, make.IPL, data)) == [text]
    assert len(text) <= event_log.MAX_TEXT


def test_data_that_no_digest_covers_is_not_shown() -> None:
    assert explained(make.event(4, make.IPL, b"shim, honestly", hashed=b"a bootkit")) == [None]


def test_facts_only_of_registers_that_replay_to_their_quoted_value() -> None:
    log = event_log.parse(make.machine())
    quoted = event_log.replay(log, "sha256")
    assert {fact.pcr for fact in event_log.explain(log, "sha256", quoted)} == set(quoted)
    quoted[4] = bytes(32)
    del quoted[8]
    assert {fact.pcr for fact in event_log.explain(log, "sha256", quoted)} == set(range(8)) - {4}


ON = make.variable("SecureBoot", b"\x01")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (make.event(7, make.VARIABLE, ON), True),
        (make.event(7, make.VARIABLE, make.variable("SecureBoot", b"\x00")), False),
        (make.event(7, make.VARIABLE, make.variable("SecureBoot", b"")), None),
        (make.event(7, make.VARIABLE, make.variable("secureboot", b"\x01")), None),
        (make.event(7, make.VARIABLE, make.variable("SecureBoot", b"\x01", guid=bytes(16))), None),
        (make.event(7, make.VARIABLE, ON, hashed=b"off"), None),
        (make.event(7, make.IPL, b"x") + make.event(7, make.VARIABLE, ON), None),
        (make.event(7, make.NO_ACTION, b"x") + make.event(7, make.VARIABLE, ON), True),
        (make.event(8, make.VARIABLE, ON), None),
    ],
)
def test_secure_boot(event: bytes, expected: bool | None) -> None:
    log = event_log.parse(make.spec_id() + event)
    quoted = event_log.replay(log, "sha256")
    assert event_log.secure_boot(log, "sha256", quoted) is expected
    assert event_log.secure_boot(log, "sha256", {**quoted, 7: bytes(32)}) is None


def extended(log: event_log.EventLog) -> list[tuple[int, bytes]]:
    return [(e.pcr, e.digests["sha256"]) for e in log.events if e.type != make.NO_ACTION]


@given(st.integers(0, len(make.machine()) * 8 - 1))
def test_a_flipped_bit_is_refused_or_seen_or_in_what_no_digest_covers(position: int) -> None:
    original = event_log.parse(make.machine())
    quoted = event_log.replay(original, "sha256")
    changed = bytearray(make.machine())
    changed[position // 8] ^= 1 << position % 8
    try:
        log = event_log.parse(bytes(changed))
    except EvidenceError:
        return
    if extended(log) != extended(original) or log.startup_locality != original.startup_locality:
        assert event_log.replay(log, "sha256") != quoted
    for fact in event_log.explain(log, "sha256", quoted):
        assert (fact.pcr, fact.digest) in extended(original)
