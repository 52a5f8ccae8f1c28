"""Read the compact protocol of Apache Thrift, as far as Parquet's metadata uses it.

A struct becomes a dict by field number, so that fields that nobody asks for need no code.
"""

from aicert.records.errors import RowRefused

# A footer nests 6 deep, a page header 3.
MAX_DEPTH = 12
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = {_I16, _I32, _I64}

Value = object
Struct = dict[int, Value]


class ThriftReader:
    """Reads values from `data`, beginning at `at`, which moves on with each value."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int = 0) -> Struct:
        """Return the struct that begins at `at`. Raises RowRefused."""
        if depth > MAX_DEPTH:
            raise RowRefused("its metadata is nested too deeply")
        fields: Struct = {}
        number = 0
        while head := self._byte():
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Value:
        if kind in _INTEGERS:
            return self._zigzag()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind in (_BYTE, _TRUE, _FALSE):
            # A boolean in a list takes a byte.
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise RowRefused("its metadata cannot be read")

    def _list(self, depth: int) -> list[Value]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        # Each item takes at least one byte.
        if size > len(self._data) - self.at or depth > MAX_DEPTH:
            raise RowRefused("its metadata ends too early")
        return [self._value(head & 15, depth + 1) for _ in range(size)]

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self._data):
            raise RowRefused("its metadata ends too early")
        return self._data[start : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise RowRefused("its metadata has a number that is too long")
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def integer(fields: Struct, number: int) -> int:
    """Return a required field that is an integer of at least 0. Raises RowRefused."""
    value = fields.get(number)
    if type(value) is not int or value < 0:
        raise RowRefused("its metadata lacks a number")
    return value


def struct(fields: Struct, number: int) -> Struct:
    """Return a required field that is a struct. Raises RowRefused."""
    value = fields.get(number)
    if not isinstance(value, dict):
        raise RowRefused("its metadata lacks a part")
    return value


def structs(fields: Struct, number: int) -> list[Struct]:
    """Return a required field that is a list of structs. Raises RowRefused."""
    value = fields.get(number)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RowRefused("its metadata lacks a list")
    return value
