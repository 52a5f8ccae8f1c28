"""Bounded reads of the TPM's wire format: big-endian integers and TPM2B sized buffers.

TPM 2.0 Library, Part 2, clauses 4.5 and 10.4. Reads past the end, sizes above a field's limit and
trailing bytes are EvidenceErrors that name the structure.
"""

from aicert.errors import EvidenceError

# The largest TPMS_ATTEST that the specification allows is far below; so are a 4096-bit RSA
# signature (518 bytes) and public area (about 600).
MAX_STRUCTURE = 1024


class Reader:
    """Big-endian reads from bounded bytes; `done` refuses what is left."""

    __slots__ = ("_data", "_offset", "what")

    def __init__(self, data: bytes, what: str) -> None:
        if len(data) > MAX_STRUCTURE:
            raise EvidenceError(f"{what} is larger than {MAX_STRUCTURE} bytes")
        self._data = data
        self._offset = 0
        self.what = what

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        end = self._offset + length
        if end > len(self._data):
            raise EvidenceError(f"{self.what} ends early, at byte {len(self._data)}")
        piece = self._data[self._offset : end]
        self._offset = end
        return piece

    def u8(self) -> int:
        """The next octet."""
        return self.take(1)[0]

    def u16(self) -> int:
        """The next UINT16."""
        return int.from_bytes(self.take(2))

    def u32(self) -> int:
        """The next UINT32."""
        return int.from_bytes(self.take(4))

    def u64(self) -> int:
        """The next UINT64."""
        return int.from_bytes(self.take(8))

    def sized(self, limit: int, field: str) -> bytes:
        """A TPM2B: a UINT16 size of at most `limit`, then that many bytes."""
        size = self.u16()
        if size > limit:
            raise EvidenceError(f"{self.what}: {field} has {size} bytes, more than {limit}")
        return self.take(size)

    def count(self, limit: int) -> int:
        """The UINT32 count of a list, at most `limit`."""
        count = self.u32()
        if count > limit:
            raise EvidenceError(f"{self.what}: a list of {count}, more than {limit}")
        return count

    def done(self) -> None:
        """Refuse trailing bytes: two readers could take them for different things."""
        left = len(self._data) - self._offset
        if left:
            raise EvidenceError(f"{self.what} has {left} trailing bytes")
