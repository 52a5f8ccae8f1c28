"""Make the machine's disk image: a partition table, the EFI system partition, and the volumes.

The table is a GUID partition table (UEFI 2.10, 5.3), and the EFI system partition has one file.
Times and identifiers are fixed; of everything measured, only PCR 5 depends on them.
"""

import os
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from rules.image.sandbox import Sandbox

SECTOR = 512
_ALIGN = 1 << 20
_ENTRIES = 128
_ENTRY = 128
_TABLE_SECTORS = _ENTRIES * _ENTRY // SECTOR
_NAMESPACE = uuid.UUID("5f3c1d0e-7a36-4c0b-9d55-0a1ce47f1ca7")
_ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_DATA_TYPE = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
# Smaller FAT32 file systems have too few clusters for the firmware.
_ESP_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partition:
    name: str
    kind: uuid.UUID
    path: Path
    begin: int
    size: int


def identifier(name: str) -> uuid.UUID:
    """Return a fixed identifier for each name; nothing depends on its value."""
    return uuid.uuid5(_NAMESPACE, name)


def system_partition(tools: Path, uki: Path, target: Path) -> None:
    """Make a FAT32 file system at `target`, with the UKI where firmware looks for it."""
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.truncate(_ESP_BYTES)
    sandbox = Sandbox(tree=tools, readable=[uki], writable=[target.parent])
    # --invariant leaves out the time and the random serial number.
    sandbox.run(["mkfs.vfat", "--invariant", "-F", "32", "-n", "AICERT", str(target)])
    for folder in ("::/EFI", "::/EFI/BOOT"):
        sandbox.run(["mmd", "-i", str(target), folder])
    sandbox.run(["mcopy", "-i", str(target), str(uki), "::/EFI/BOOT/BOOTX64.EFI"])


def assemble(parts: list[tuple[str, Path]], target: Path) -> None:
    """Write the disk from its parts; the first is the EFI system partition. Holes stay holes."""
    partitions: list[_Partition] = []
    begin = _ALIGN
    for index, (name, path) in enumerate(parts):
        size = path.stat().st_size
        kind = _DATA_TYPE if index else _ESP_TYPE
        partitions.append(_Partition(name=name, kind=kind, path=path, begin=begin, size=size))
        begin += -(-size // _ALIGN) * _ALIGN
    target.unlink(missing_ok=True)
    with target.open("w+b") as disk:
        disk.truncate(begin + _ALIGN)
        for part in partitions:
            _copy(part, disk.fileno())
        _write_tables(disk.fileno(), partitions, (begin + _ALIGN) // SECTOR)


def _copy(part: _Partition, disk: int) -> None:
    source = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        at = 0
        while at < part.size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError:
                return  # ENXIO: only a hole follows
            end = os.lseek(source, at, os.SEEK_HOLE)
            while at < end:
                count = os.copy_file_range(source, disk, end - at, at, part.begin + at)
                if not count:
                    raise ToolError(f"{part.path.name} became shorter while it was copied")
                at += count
    finally:
        os.close(source)


def _write_tables(disk: int, partitions: list[_Partition], sectors: int) -> None:
    table = b"".join(_entry(part) for part in partitions).ljust(_ENTRIES * _ENTRY, b"\0")
    last = sectors - 1
    os.pwrite(disk, _protective_mbr(sectors), 0)
    os.pwrite(disk, _header(1, last, 2, sectors, table), SECTOR)
    os.pwrite(disk, table, 2 * SECTOR)
    backup = last - _TABLE_SECTORS
    os.pwrite(disk, table, backup * SECTOR)
    os.pwrite(disk, _header(last, 1, backup, sectors, table), last * SECTOR)


def _entry(part: _Partition) -> bytes:
    first = part.begin // SECTOR
    last = (part.begin + -(-part.size // _ALIGN) * _ALIGN) // SECTOR - 1
    name = f"aicert-{part.name}".encode("utf-16-le")
    return struct.pack(
        "<16s16sQQQ72s", part.kind.bytes_le, identifier(part.name).bytes_le, first, last, 0, name
    )


def _header(own: int, other: int, table_at: int, sectors: int, table: bytes) -> bytes:
    usable = 2 + _TABLE_SECTORS, sectors - _TABLE_SECTORS - 2

    def pack(checksum: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART", 0x00010000, 92, checksum, 0, own, other, *usable,
            identifier("disk").bytes_le, table_at, _ENTRIES, _ENTRY, zlib.crc32(table),
        )  # fmt: skip

    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")


def _protective_mbr(sectors: int) -> bytes:
    size = min(sectors - 1, 0xFFFFFFFF)
    entry = struct.pack("<B3sB3sII", 0, b"\0\x02\0", 0xEE, b"\xff\xff\xff", 1, size)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"
