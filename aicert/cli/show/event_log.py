"""Parse and replay a UEFI machine's boot event log, and explain only what its digests cover.

TCG PC Client Platform Firmware Profile, "Event Logging": a first event in the SHA-1 form
(TCG_PCClientPCREvent) contains TCG_EfiSpecIDEvent ("Spec ID Event03"). Then TCG_PCR_EVENT2 follow,
with one digest for each algorithm (Windows writes only SHA-256, whatever was declared). Older
firmware writes the SHA-1 form throughout.

The log is hostile until its replay equals quoted registers, and then only its digests are true,
since neither types nor data are extended. So `explain` covers only registers that replay to their
quoted value, shows no type, and shows data only if the data's hash is the digest.

Not covered: registers above 15 (they can be reset, or start at another value), and the meaning of
data that no digest covers.
"""

import hashlib
import struct
from collections.abc import Mapping

from aicert.errors import EvidenceError
from aicert.formats.binary import Reader
from aicert.frozen import dataclass
from aicert.text import safe

# Eight logs of real machines have 15 to 60 kB; the certificate's limit on the log is the same.
_WHAT = "event log"
MAX_BYTES = 1 << 20
# Real logs have about 150 events. An entry takes 32 bytes or more, so this limit is reached before
# MAX_BYTES.
MAX_EVENTS = 10_000
# Part 2 of the TPM library names eight hash algorithms, and no TPM has more banks.
MAX_ALGORITHMS = 8
# The size of SHA-512; a larger digest has no algorithm identifier.
MAX_DIGEST = 64
# Firmware Profile: a PC has 24 registers, of which 0 to 15 start at zero and cannot be reset.
PCRS = 24
STATIC_PCRS = 16
# The longest text in one line of the report.
MAX_TEXT = 200

# TCG Algorithm Registry: number, name in hashlib, digest size.
ALGORITHMS: Mapping[int, tuple[str, int]] = {
    0x0004: ("sha1", 20),
    0x000B: ("sha256", 32),
    0x000C: ("sha384", 48),
    0x000D: ("sha512", 64),
    0x0012: ("sm3", 32),
    0x0027: ("sha3_256", 32),
    0x0028: ("sha3_384", 48),
    0x0029: ("sha3_512", 64),
}

EV_NO_ACTION = 0x00000003
_SPEC_ID = b"Spec ID Event03\0"
_LOCALITY = b"StartupLocality\0"
_SHA1_ONLY: Mapping[int, int] = {0x0004: 20}
# The size of an entry without digests and data: register, type, a SHA-1 digest and a size; in the
# newer form, register, type, number of digests and size of the data.
_LEGACY_BYTES, _AGILE_BYTES = 32, 16
# The log of a trust domain (CCEL) begins with register 1. Its numbers are 0 for MRTD and 1 to 4 for
# the run-time registers.
_CCEL_PCR = 1
# The register number of an informative event that belongs to no register.
_NO_PCR = 0xFFFFFFFF
# EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c, in its byte order in memory.
_GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry: its register, the number of its type, `{algorithm name: digest}`, and its data."""

    pcr: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes

    def covered_by(self, bank: str) -> bool:
        """Return whether the hash of `data` is the digest in `bank`."""
        return self.digests[bank] == _hash(bank, self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A parsed log, with its events in order and without the Spec ID event.

    `banks` are the declared algorithms of which every entry has a digest.
    """

    banks: tuple[str, ...]
    events: tuple[Event, ...]
    startup_locality: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One extended event. `text` is escaped and short; None if the digest covers no data."""

    pcr: int
    digest: bytes
    text: str | None


def parse(data: bytes) -> EventLog:
    """Parse a log. Raises EvidenceError if anything is malformed, too large or left over."""
    reader = Reader(data, _WHAT, limit=MAX_BYTES, order="little")
    first = _legacy_event(reader)
    agile = first.type == EV_NO_ACTION and first.data.startswith(_SPEC_ID)
    algorithms = _declared(first) if agile else _SHA1_ONLY
    events = [] if agile else [first]
    # The firmware of a trust domain returns its log in a larger buffer, padded with 0xff bytes. No
    # event begins with these.
    padded = agile and first.pcr == _CCEL_PCR
    end = len(data.rstrip(b"\xff")) if padded else len(data)
    place = _LEGACY_BYTES + len(first.data)
    while place < end:
        if len(events) >= MAX_EVENTS:
            raise EvidenceError(f"event log has more than {MAX_EVENTS} events")
        event = _event(reader, algorithms) if agile else _legacy_event(reader)
        digests = sum(2 + len(digest) for digest in event.digests.values())
        place += len(event.data) + (_AGILE_BYTES + digests if agile else _LEGACY_BYTES)
        events.append(event)
    return EventLog(
        banks=tuple(
            name
            for name in map(_name, algorithms)
            if all(name in event.digests for event in events)
        ),
        events=tuple(events),
        startup_locality=_startup_locality(events),
    )


def replay(log: EventLog, bank: str) -> dict[int, bytes]:
    """Return the value of every static register that `log` extends, in `bank` (like `sha256`)."""
    if bank not in log.banks:
        raise EvidenceError(f"event log has no {bank} bank, it has {', '.join(log.banks)}")
    size = len(_hash(bank, b""))
    values: dict[int, bytes] = {}
    for event in log.events:
        if event.type != EV_NO_ACTION and event.pcr < STATIC_PCRS:
            first = log.startup_locality if event.pcr == 0 else 0
            before = values.get(event.pcr, first.to_bytes(size))
            values[event.pcr] = _hash(bank, before + event.digests[bank])
    return values


def explain(log: EventLog, bank: str, quoted: Mapping[int, bytes]) -> tuple[Fact, ...]:
    """Return the events, in order, of the registers whose replay equals the quoted value."""
    values = replay(log, bank)
    true = {pcr for pcr, value in values.items() if quoted.get(pcr) == value}
    return tuple(
        Fact(
            pcr=event.pcr,
            digest=event.digests[bank],
            text=_text(event.data) if event.covered_by(bank) else None,
        )
        for event in log.events
        if event.type != EV_NO_ACTION and event.pcr in true
    )


def secure_boot(log: EventLog, bank: str, quoted: Mapping[int, bytes]) -> bool | None:
    """Return what the firmware measured as its `SecureBoot` variable; None if the log cannot say.

    Only the first event of PCR 7 counts: the firmware extends it before it runs anybody else's
    code, and software that ran later could extend the same bytes (Firmware Profile, "PCR[7]").
    """
    if replay(log, bank).get(7, b"") != quoted.get(7):
        return None
    first = next(e for e in log.events if e.pcr == 7 and e.type != EV_NO_ACTION)
    variable = _variable(first.data) if first.covered_by(bank) else None
    if variable is None or variable[:2] != (_GLOBAL_VARIABLE, "SecureBoot"):
        return None
    return {b"\x00": False, b"\x01": True}.get(variable[2])


def _declared(first: Event) -> dict[int, int]:
    """Return the algorithms in TCG_EfiSpecIDEvent as `{number: digest size}`."""
    if first.pcr not in (0, _CCEL_PCR) or first.digests["sha1"] != bytes(20):
        raise EvidenceError("event log: Spec ID Event03 is not in PCR 0 or 1, or has a digest")
    body = Reader(first.data, _WHAT, limit=MAX_BYTES, order="little")
    body.take(len(_SPEC_ID))
    body.take(8)  # platform class, versions, size of UINTN: nothing depends on them
    count = body.u32()
    if not 1 <= count <= MAX_ALGORITHMS:
        raise EvidenceError(f"event log declares {count} algorithms, not 1 to {MAX_ALGORITHMS}")
    algorithms: dict[int, int] = {}
    for _ in range(count):
        number, size = body.u16(), body.u16()
        known = ALGORITHMS.get(number)
        wrong_size = size != known[1] if known else not 1 <= size <= MAX_DIGEST
        if number in algorithms or wrong_size:
            raise EvidenceError(
                f"event log: algorithm {number:#06x} is repeated or of {size} bytes"
            )
        algorithms[number] = size
    body.take(body.u8())  # vendor information
    if not body.at_end():
        raise EvidenceError("event log: Spec ID Event03 has trailing bytes")
    return algorithms


def _event(reader: Reader, algorithms: Mapping[int, int]) -> Event:
    """Read a TCG_PCR_EVENT2: digests for some or all declared algorithms, in any order."""
    pcr, kind = _pcr_and_type(reader)
    count = reader.u32()
    if not 1 <= count <= len(algorithms):
        raise EvidenceError(f"event log: an event has {count} digests, not 1 to {len(algorithms)}")
    digests: dict[str, bytes] = {}
    for _ in range(count):
        number = reader.u16()
        if number not in algorithms or _name(number) in digests:
            raise EvidenceError(f"event log: digest {number:#06x} is undeclared or repeated")
        digests[_name(number)] = reader.take(algorithms[number])
    return Event(pcr=pcr, type=kind, digests=digests, data=reader.take(reader.u32()))


def _legacy_event(reader: Reader) -> Event:
    """Read a TCG_PCClientPCREvent, which has one SHA-1 digest."""
    pcr, kind = _pcr_and_type(reader)
    digest = reader.take(20)
    return Event(pcr=pcr, type=kind, digests={"sha1": digest}, data=reader.take(reader.u32()))


def _pcr_and_type(reader: Reader) -> tuple[int, int]:
    pcr, kind = reader.u32(), reader.u32()
    if pcr >= PCRS and not (kind == EV_NO_ACTION and pcr == _NO_PCR):
        raise EvidenceError(f"event log: there is no PCR {pcr}")
    return pcr, kind


def _startup_locality(events: list[Event]) -> int:
    """Return the locality from which TPM2_Startup was called, which is PCR 0's first value.

    It is 4 after an H-CRTM sequence. A second StartupLocality event, or one after PCR 0 was
    extended, would be ambiguous.
    """
    locality: int | None = None
    extended = False
    for event in events:
        if event.type != EV_NO_ACTION:
            extended = extended or event.pcr == 0
        elif event.data.startswith(_LOCALITY):
            if locality is not None or extended or event.pcr != 0:
                raise EvidenceError("event log: StartupLocality is repeated, late or not in PCR 0")
            if len(event.data) != len(_LOCALITY) + 1 or event.data[-1] not in (0, 3, 4):
                raise EvidenceError("event log: StartupLocality is not 0, 3 or 4")
            locality = event.data[-1]
    return locality or 0


def _name(number: int) -> str:
    return ALGORITHMS[number][0] if number in ALGORITHMS else f"{number:#06x}"


def _hash(bank: str, data: bytes) -> bytes:
    try:
        return hashlib.new(bank, data).digest()
    except ValueError:
        raise EvidenceError(f"event log: {bank} is not a hash algorithm known here") from None


def _text(data: bytes) -> str:
    """Describe covered data for people: an EFI variable, ASCII or UTF-16 text, or else its size."""
    if data == bytes(4):
        return "separator"
    variable = _variable(data)
    if variable is not None:
        return safe(f"variable {variable[1]}, {len(variable[2])} bytes", MAX_TEXT)
    for encoding in ("utf-8", "utf-16-le"):
        try:
            text = data.decode(encoding).removesuffix("\0")
        except UnicodeDecodeError:
            continue
        if text and text.isascii() and text.isprintable():
            return safe(text, MAX_TEXT)
    return f"{len(data)} bytes"


def _variable(data: bytes) -> tuple[bytes, str, bytes] | None:
    """Parse UEFI_VARIABLE_DATA: GUID, name, content; None if `data` is not exactly one."""
    if len(data) < 32:
        return None
    name_length, size = struct.unpack_from("<QQ", data, 16)
    if name_length == 0 or 32 + 2 * name_length + size != len(data):
        return None
    name_end = 32 + 2 * name_length
    try:
        name = data[32:name_end].decode("utf-16-le")
    except UnicodeDecodeError:
        return None
    return data[:16], name, data[name_end:]
