"""Builders of TCG binary event logs, valid and invalid, for tests and as seeds."""

import hashlib
import struct

NO_ACTION = 3
SEPARATOR = 4
IPL = 13
VARIABLE = 0x80000001
SIZES = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64}
NAMES = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
DEFAULT = (0x0004, 0x000B)
GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")


def legacy(pcr: int, kind: int, digest: bytes, data: bytes) -> bytes:
    return struct.pack("<II", pcr, kind) + digest + struct.pack("<I", len(data)) + data


def spec_id_data(
    algorithms: dict[int, int], *, vendor: bytes = b"", count: int | None = None
) -> bytes:
    head = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 0, 2)
    number = len(algorithms) if count is None else count
    body = b"".join(struct.pack("<HH", *item) for item in algorithms.items())
    return head + struct.pack("<I", number) + body + bytes([len(vendor)]) + vendor


def spec_id(algorithms: dict[int, int] | None = None, **options: bytes | int) -> bytes:
    declared = {n: SIZES[n] for n in DEFAULT} if algorithms is None else algorithms
    return legacy(0, NO_ACTION, bytes(20), spec_id_data(declared, **options))  # type: ignore[arg-type]  # passed on


def ccel(*events: bytes, size: int = 4096, filler: bytes = b"\xff") -> bytes:
    """Return the log of a trust domain, in the buffer that its firmware provides."""
    first = legacy(1, NO_ACTION, bytes(20), spec_id_data({0x000C: 48}))
    return (first + b"".join(events)).ljust(size, filler)


def event(
    pcr: int,
    kind: int,
    data: bytes,
    *,
    algorithms: tuple[int, ...] = DEFAULT,
    hashed: bytes | None = None,
) -> bytes:
    """Return an event; its digests are of `hashed` (default: its data), zero for EV_NO_ACTION."""
    digests = b""
    for number in algorithms:
        value = hashlib.new(NAMES[number], data if hashed is None else hashed).digest()
        digests += struct.pack("<H", number) + (
            bytes(SIZES[number]) if kind == NO_ACTION else value
        )
    return struct.pack("<III", pcr, kind, len(algorithms)) + digests + sized(data)


def sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def locality(value: int, *, pcr: int = 0) -> bytes:
    return event(pcr, NO_ACTION, b"StartupLocality\0" + bytes([value]))


def variable(name: str, content: bytes, *, guid: bytes = GLOBAL_VARIABLE) -> bytes:
    return guid + struct.pack("<QQ", len(name), len(content)) + name.encode("utf-16-le") + content


def machine() -> bytes:
    """Return a small but complete boot log, from which the seeds are made."""
    return b"".join(
        [
            spec_id(vendor=b"aicert"),
            locality(3),
            event(0, 8, "firmware 1".encode("utf-16-le") + b"\0\0"),
            event(7, VARIABLE, variable("SecureBoot", b"\x01")),
            *(event(pcr, SEPARATOR, bytes(4)) for pcr in range(8)),
            event(4, 0x80000003, b"device path", hashed=b"the image"),
            event(8, IPL, b"linux /vmlinuz\0"),
        ]
    )
