"""Measure one file of a model, block by block, as the scripts read it.

The result is that of `verifier/model_directory.py` for the same bytes. A helper worker has this
module but not the bridge, and passes the result on as text.
"""

import hashlib
import json

from aicert.errors import EvidenceError
from aicert.formats.digest import Defect, FileFact
from aicert.formats.safetensors import LENGTH, header_length, is_named, parse_header


class File:
    """A file being read: its hash so far, and its header if it is named as a safetensors file."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = size
        self._read = 0
        self._hash = hashlib.sha256()
        self._header = bytearray()
        # How many of the first bytes to keep: at first those of the length, then also the header,
        # which has that length.
        self._kept = LENGTH if is_named(path) else 0
        self._refusal: EvidenceError | None = None

    def block(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        self._hash.update(data)
        self._read += len(data)
        try:
            self._keep(data)
        except EvidenceError as error:
            self._refusal, self._kept = error, 0

    def _keep(self, data: bytes | memoryview) -> None:
        start = 0
        while len(self._header) < self._kept and start < len(data):
            part = data[start : start + self._kept - len(self._header)]
            self._header += part
            start += len(part)
            if len(self._header) == LENGTH == self._kept:
                self._kept += header_length(bytes(self._header), self._size)

    def end(self) -> str:
        """Return the result as text for `measured`, once the file was read to its end."""
        try:
            fact = self._fact()
        except EvidenceError as error:
            return json.dumps({"defect": error.message})
        return json.dumps({"size": fact.size, "sha256": fact.sha256})

    def _fact(self) -> FileFact:
        """Return the facts. Raises EvidenceError if the file cannot be certified."""
        if self._read != self._size:
            raise EvidenceError(f"file changed while it was read: {self._path!a}")
        if self._refusal is not None:
            raise self._refusal
        if is_named(self._path):
            if len(self._header) < LENGTH:
                # This raises an error that says what is wrong with a file that is too short.
                header_length(bytes(self._header), self._size)
            parse_header(bytes(self._header[LENGTH:]), self._size - self._kept)
        return FileFact(self._size, self._hash.hexdigest())


def measured(text: str) -> FileFact | Defect:
    """Parse a result of `File.end`."""
    values = json.loads(text)
    if "defect" in values:
        return Defect(values["defect"])
    return FileFact(values["size"], values["sha256"])
