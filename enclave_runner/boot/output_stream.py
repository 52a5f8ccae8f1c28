"""Write the stream in which results leave the machine (docs/spec/image.md, "Output volume").

The stream is `aicert output 1`, then for each file `file SIZE PATH` and its bytes, then `end`;
lines end in LF. The volume is written once, from its beginning, and never read. The host believes
none of it before it has verified the certificate in it.
"""

import os
from pathlib import Path

from aicert.formats import machine_io

# Only whole blocks are written: for part of a block, the kernel would first read the rest of it
# from the host.
_BLOCK = 1 << 20


def write_stream(folder: Path, device: Path) -> None:
    """Write every file under `folder` to `device`, and wait until it is written."""
    fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        stream = _Blocks(fd)
        stream.write(machine_io.STREAM_HEADER)
        for path in _files(folder):
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                name = path.relative_to(folder).as_posix()
                stream.write(machine_io.file_line(name, size))
                while data := file.read(_BLOCK):
                    stream.write(data)
        stream.write(machine_io.STREAM_END)
        stream.finish()
        os.fsync(fd)
    finally:
        os.close(fd)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)


class _Blocks:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""

    def write(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % _BLOCK
        self._send(data[:whole])
        self._rest = data[whole:]

    def finish(self) -> None:
        self._send(self._rest + bytes(-len(self._rest) % machine_io.BLOCK))

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
