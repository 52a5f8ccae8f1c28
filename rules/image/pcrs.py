"""Predict what a machine measures when it boots a unified kernel image, from the image's bytes.

PCR 4: the firmware's action, the separator, and the Authenticode hash of each image that it starts:
the UKI and the kernel inside it (TCG PC Client Platform Firmware Profile, 8.2.4 and 10.2; Windows
Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash").

PCR 11: the UKI's sections, by systemd-stub (UAPI.5, "PCR measurements").

PCR 12 and 13: whatever systemd-stub gets from outside the UKI. There is nothing, so they stay zero.

The firmware must try this image first: each boot option that fails earlier adds events to PCR 4.
"""

import hashlib
import struct
from dataclasses import dataclass

from aicert.errors import ToolError
from aicert.formats.measurement import ZERO

# The sections that systemd-stub measures, if present, in this order.
MEASURED = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids",
)  # fmt: skip
_BOOT_ACTION = b"Calling EFI Application from Boot Option"
_RETURN_ACTION = b"Returning from EFI Application from Boot Option"
_SEPARATOR = bytes(4)
_PE32_PLUS = 0x20B
# Offsets in the optional header of PE32+ (Microsoft PE format, "Optional header").
_CHECKSUM = 64
_SIZE_OF_HEADERS = 60
_CERTIFICATE_ENTRY = 112 + 4 * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of a PE image; `content` is as long as the section is in memory."""

    name: str
    offset: int
    raw_size: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A PE32+ image: the ranges that a signature leaves out, and its sections."""

    data: bytes
    optional: int
    sections: tuple[Section, ...]


def predict(uki: bytes, *, failed_options: int = 0) -> dict[int, bytes]:
    """Compute PCRs 4, 11, 12 and 13 (SHA-256 bank) after this UKI was booted directly.

    `failed_options`: how many boot options the firmware tried before it.
    """
    image = parse(uki)
    content = {section.name: section.content for section in image.sections}
    if ".linux" not in content:
        raise ToolError("not a unified kernel image: it has no .linux section")
    kernel = parse(content[".linux"])
    pcr4, pcr11 = ZERO, ZERO
    again = [hashlib.sha256(action).digest() for action in (_RETURN_ACTION, _BOOT_ACTION)]
    for digest in (
        hashlib.sha256(_BOOT_ACTION).digest(),
        hashlib.sha256(_SEPARATOR).digest(),
        *again * failed_options,
        authenticode(image),
        authenticode(kernel),
    ):
        pcr4 = _extend(pcr4, digest)
    for name in MEASURED:
        if name in content:
            pcr11 = _extend(pcr11, hashlib.sha256(name.encode() + b"\0").digest())
            pcr11 = _extend(pcr11, hashlib.sha256(content[name]).digest())
    return {4: pcr4, 11: pcr11, 12: ZERO, 13: ZERO}


def _extend(pcr: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(pcr + digest).digest()


def authenticode(image: Image) -> bytes:
    """Return the SHA-256 of a PE image without its checksum and its signatures."""
    data, optional = image.data, image.optional
    end_of_headers = _u32(data, optional + _SIZE_OF_HEADERS)
    certificate = optional + _CERTIFICATE_ENTRY
    state = hashlib.sha256(data[: optional + _CHECKSUM])
    state.update(data[optional + _CHECKSUM + 4 : certificate])
    state.update(data[certificate + 8 : end_of_headers])
    hashed = end_of_headers
    for section in sorted(image.sections, key=lambda section: section.offset):
        if section.raw_size:
            state.update(data[section.offset : section.offset + section.raw_size])
            hashed += section.raw_size
    signatures = _u32(data, certificate + 4)
    state.update(data[hashed : len(data) - signatures])
    return state.digest()


def parse(data: bytes) -> Image:
    """Parse the headers of a PE32+ image. Raises ToolError for anything else."""
    try:
        start = _u32(data, 0x3C)
        if data[:2] != b"MZ" or data[start : start + 4] != b"PE\0\0":
            raise ToolError("not a PE image")
        count, optional_size = struct.unpack_from("<H12xH", data, start + 6)
        optional = start + 24
        if struct.unpack_from("<H", data, optional)[0] != _PE32_PLUS:
            raise ToolError("not a 64-bit PE image")
        table = optional + optional_size
        sections = tuple(_section(data, table + 40 * index) for index in range(count))
    except struct.error:
        raise ToolError("a PE image ends in the middle of its headers") from None
    return Image(data=data, optional=optional, sections=sections)


def _section(data: bytes, at: int) -> Section:
    name, size, _, raw_size, offset = struct.unpack_from("<8sIIII", data, at)
    content = data[offset : offset + min(size, raw_size)]
    return Section(
        name=name.rstrip(b"\0").decode("ascii", "replace"),
        offset=offset,
        raw_size=raw_size,
        content=content + bytes(size - len(content)) if size < 1 << 30 else content,
    )


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
