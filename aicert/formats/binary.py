"""Bounded reads of binary structures: integers of one byte order, and TPM2B sized buffers.

The one reader of what a TPM signs (big-endian: TPM 2.0 Library, Part 2, clauses 4.5 and 10.4), of
event logs and of processors' reports (little-endian). Reads past the end, sizes above a field's
limit and trailing bytes are EvidenceErrors that name the structure.
"""

from typing import Literal

from aicert.errors import EvidenceError

# The largest TPMS_ATTEST that the specification allows is far below this; so are a 4096-bit RSA
# signature (518 bytes) and public area (about 600).
MAX_STRUCTURE = 1024


def u32_little(data: bytes, at: int) -> int:
    """Return the little-endian integer in the four octets at `at`, in data whose size is known."""
    return int.from_bytes(data[at : at + 4], "little")


class Reader:
    """A reader of bounded bytes, one field after another; `done` refuses what is left."""

    __slots__ = ("_data", "_offset", "_order", "what")

    def __init__(
        self,
        data: bytes,
        what: str,
        *,
        limit: int = MAX_STRUCTURE,
        order: Literal["big", "little"] = "big",
    ) -> None:
        if len(data) > limit:
            raise EvidenceError(f"{what} is larger than {limit} bytes")
        self._data = data
        self._offset = 0
        self._order = order
        self.what = what

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        end = self._offset + length
        if end > len(self._data):
            raise EvidenceError(f"{self.what} ends early, at byte {len(self._data)}")
        piece = self._data[self._offset : end]
        self._offset = end
        return piece

    def u8(self) -> int:
        """Return the next octet."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next UINT16."""
        return int.from_bytes(self.take(2), self._order)

    def u32(self) -> int:
        """Return the next UINT32."""
        return int.from_bytes(self.take(4), self._order)

    def u64(self) -> int:
        """Return the next UINT64."""
        return int.from_bytes(self.take(8), self._order)

    def sized(self, limit: int, field: str) -> bytes:
        """Return the content of a TPM2B: a UINT16 size of at most `limit`, then that many bytes."""
        size = self.u16()
        if size > limit:
            raise EvidenceError(f"{self.what}: {field} has {size} bytes, more than {limit}")
        return self.take(size)

    def count(self, limit: int) -> int:
        """Return the UINT32 count of a list, at most `limit`."""
        count = self.u32()
        if count > limit:
            raise EvidenceError(f"{self.what}: a list of {count} items, more than {limit}")
        return count

    @property
    def offset(self) -> int:
        """How many bytes were read."""
        return self._offset

    def at_end(self) -> bool:
        """Return True if everything was read."""
        return self._offset == len(self._data)

    def done(self) -> None:
        """Refuse trailing bytes: two readers could take them for different things."""
        left = len(self._data) - self._offset
        if left:
            raise EvidenceError(f"{self.what} has {left} trailing bytes")
