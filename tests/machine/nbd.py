"""A network block device over a UNIX socket that serves one file, and fails where a test wants it
to.

It speaks the fixed newstyle handshake and simple replies of the NBD protocol
(NetworkBlockDevice/nbd, doc/proto.md), read-only. That is enough for qemu, and it is real: its
answers are what the machine's disk contains, at any moment of the run.
"""

import os
import socket
import struct
import threading
from pathlib import Path

_REPLY = 0x3E889045565A9
_EIO = 5


class Volume(threading.Thread):
    """Serves `path` at `NAME.sock` next to it. Reading at the offset `fail_at` is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.fail_at: int | None = None
        self.failed = 0
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        self._socket = socket.socket(socket.AF_UNIX)
        # A UNIX socket's path is limited to 107 bytes.
        folder = os.open(path.parent, os.O_PATH)
        self._socket.bind(f"/proc/self/fd/{folder}/{self.socket_name}")
        os.close(folder)
        self._socket.listen()
        self.start()

    @property
    def socket_name(self) -> str:
        return f"{self._path.name}.sock"

    def run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                try:
                    self._handshake(client)
                    self._serve(client)
                except (ConnectionError, EOFError):
                    continue

    def stop(self) -> None:
        # close() alone would not wake the thread that waits in accept().
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.join(600)

    def _handshake(self, client: socket.socket) -> None:
        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        _receive(client, 4)
        size = os.fstat(self._file).st_size
        while True:
            _, option, length = struct.unpack(">8sII", _receive(client, 16))
            _receive(client, length)
            if option in (6, 7):  # INFO, GO; flags: has flags, read-only
                export = struct.pack(">HQH", 0, size, 3)
                client.sendall(struct.pack(">QIII", _REPLY, option, 3, len(export)) + export)
                client.sendall(struct.pack(">QIII", _REPLY, option, 1, 0))
                if option == 7:
                    return
            elif option == 2:  # ABORT
                raise EOFError
            else:
                client.sendall(struct.pack(">QIII", _REPLY, option, (1 << 31) + 1, 0))

    def _serve(self, client: socket.socket) -> None:
        while True:
            _, _, kind, handle, at, length = struct.unpack(">IHHQQI", _receive(client, 28))
            if kind == 2:  # DISC
                return
            bad = self.fail_at is not None and at <= self.fail_at < at + length
            self.failed += bad
            client.sendall(struct.pack(">IIQ", 0x67446698, _EIO if bad else 0, handle))
            if kind == 0 and not bad:
                client.sendall(os.pread(self._file, length, at))


def _receive(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data
