"""Start the engine in its sandbox, and let the gateway reach it through a socket.

`python bridge.py SOCKET PORT -- COMMAND…`. The sandbox has its own network, and nobody outside can
reach its loopback. A Unix socket in the scratch folder is visible from both sides; it appears once
the engine listens. This program exits when the engine does. It imports nothing from the runner.
"""

import os
import socket
import subprocess
import sys
import threading
import time

_STEP = 1 << 16
_POLL_S = 0.05


def main(arguments: list[str]) -> int:
    """Run the engine to its end and return its exit code."""
    place, port, separator, *command = arguments
    if separator != "--":
        raise SystemExit("bridge.py SOCKET PORT -- COMMAND")
    engine = subprocess.Popen(command)
    threading.Thread(target=_listen, args=(engine, place, int(port)), daemon=True).start()
    return engine.wait()


def _listen(engine: "subprocess.Popen[bytes]", place: str, port: int) -> None:
    while engine.poll() is None and not _is_there(port):
        time.sleep(_POLL_S)
    # Bind under another name first, so that nobody finds a socket that does not listen yet.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(place + ".new")
        server.listen(64)
        os.rename(place + ".new", place)
        while True:
            outside, _ = server.accept()
            threading.Thread(target=_join, args=(outside, port), daemon=True).start()


def _is_there(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), _POLL_S).close()
    except OSError:
        return False
    return True


def _join(outside: socket.socket, port: int) -> None:
    with outside:
        try:
            inside = socket.create_connection(("127.0.0.1", port))
        except OSError:
            return
        with inside:
            back = threading.Thread(target=_pour, args=(inside, outside), daemon=True)
            back.start()
            _pour(outside, inside)
            back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end of the stream, then close the other side."""
    try:
        while data := source.recv(_STEP):
            target.sendall(data)
    except OSError:
        # One side has closed: close the other too.
        pass
    for end, how in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
        try:
            end.shutdown(how)
        except OSError:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
