"""Run a serving machine as a process: `python -m enclave_runner.serving …`.

The courier writes lines to standard input and reads the machine's lines from standard output. With
`--courier-key` it connects to the machine's port instead (`entrance`). If the courier disconnects,
serving continues until the deadline. The exit code is 0 if an order or the end of the licence ended
it.
"""

import argparse
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from aicert.errors import AicertError, ToolError
from aicert.formats.digest import Digest
from aicert.lease import courier, orders
from aicert.lease.courier import Message
from enclave_runner.attester.tpm import Tpm
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.serving import load, running, tls
from enclave_runner.serving.entrance import Entrance
from enclave_runner.serving.lease_tpm import LeaseTpm
from enclave_runner.serving.machine import ASKED, Machine, Place
from enclave_runner.serving.opened import DEADLINE
from enclave_runner.serving.running import EngineSettings, Running

_AS_LICENSED: Final = (ASKED, DEADLINE, orders.REVOKE, orders.STOP)
# The queue for a slow courier, and how long to wait for it to take the last lines.
_WAITING: Final = 256
_LAST_WORDS_S: Final = 10.0
_POLL_S: Final = 0.01


class CourierEnd(Protocol):
    """How the machine talks with its courier: `CourierWriter`, or `entrance.Entrance`."""

    def send(self, message: Message) -> None:
        """Send one line; never blocks."""

    def listen(self, handle: Callable[[bytes], None]) -> None:
        """Hand over each line that arrives, in a thread of its own."""

    def finish(self, seconds: float) -> None:
        """Wait until every line has been taken, for at most `seconds`."""


class CourierWriter:
    """Writes whole lines to the courier at `descriptor`, and never blocks.

    A courier that does not read loses lines: the thread that watches the deadline sends lines too,
    and a courier must not be able to hold it up.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(_WAITING)
        threading.Thread(target=self._write, name="courier", daemon=True).start()

    def send(self, message: Message) -> None:
        """Queue one line."""
        try:
            self._lines.put_nowait(courier.emit(message))
        except queue.Full:
            # The courier loses this receipt, but the next one names it.
            return

    def listen(self, handle: Callable[[bytes], None]) -> None:
        """Hand over each line of standard input."""

        def work() -> None:
            for line in lines(sys.stdin.fileno()):
                handle(line)

        threading.Thread(target=work, daemon=True).start()

    def finish(self, seconds: float) -> None:
        """Wait until every queued line is written, for at most `seconds`."""
        until = time.monotonic() + seconds
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                # The courier no longer reads: discard the rest.
                pass
            self._lines.task_done()


def main(argv: list[str] | None = None) -> int:
    """Serve until serving is over, and return the exit code."""
    arguments = _arguments(argv)
    # A core dump would hold keys and weights, so a crash must not write one.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with Tpm(arguments.tcti) as opened, LeaseTpm(opened) as tpm:
            return 0 if _serve(arguments, tpm) in _AS_LICENSED else 1
    except AicertError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code


def _serve(arguments: argparse.Namespace, tpm: LeaseTpm) -> str:
    """Serve, and return the reason why it ended."""
    # A compromised engine could write weights to its scratch folder and its log.
    for folder in (
        arguments.memory,
        arguments.copies,
        arguments.scratch.parent,
        arguments.log.parent,
    ):
        load.require_memory(folder)
    settings = running.transformers(
        EngineSettings(
            environment=arguments.environment,
            command=(),
            scratch=arguments.scratch,
            log=arguments.log,
            memory_bytes=arguments.engine_memory,
            threads=arguments.threads,
            user=arguments.engine_user,
            packages=tuple(arguments.packages),
        )
    )
    # The links to files of the model are below `copies`, which is emptied at the end.
    given = arguments.copies / "given"
    given.mkdir()
    if given.stat().st_dev != arguments.memory.stat().st_dev:
        raise ToolError("--memory and --copies are on different file systems")
    engine = Running(settings, given)
    try:
        return _serve_with(engine, arguments, tpm)
    finally:
        # Nobody gave it a model if no lease was opened.
        engine.kill()


def _serve_with(engine: Running, arguments: argparse.Namespace, tpm: LeaseTpm) -> str:
    identity, address = tls.make_identity(), (arguments.host, arguments.port)
    key = arguments.courier_key
    entrance = None if key is None else Entrance(address, identity, key)
    end: CourierEnd = entrance or CourierWriter(sys.stdout.fileno())
    place = Place(
        memory=arguments.memory,
        copies=arguments.copies,
        address=address,
        model_types=axolotl_keys().model_types,
        start=engine.give,
        admit=None if entrance is None else entrance.admit,
    )
    machine = Machine(
        tpm,
        load.read_bundle(arguments.bundle),
        place,
        identity,
        end.send,
        image=arguments.image,
        # An order to end is heard, and a licence renewed, while a large model loads.
        loading=lambda load: threading.Thread(target=load, name="loader", daemon=True).start(),
    )
    # A signal handler interrupts this thread anywhere, perhaps holding a lock that `end` needs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _in_a_thread(machine))
    machine.ready()
    end.listen(machine.handle)
    machine.over.wait()
    end.finish(_LAST_WORDS_S)
    return machine.reason


def lines(descriptor: int) -> Iterator[bytes]:
    """Yield each line. A line that never ends is yielded in parts, and no part parses as a message.

    This does not use `sys.stdin`: a thread blocked in its reader crashes the process at exit.
    """
    held = b""
    while data := os.read(descriptor, courier.MAX_LINE):
        *whole, held = (held + data).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(held) > courier.MAX_LINE:
            yield held
            held = b""


def _in_a_thread(machine: Machine) -> None:
    threading.Thread(target=machine.end, args=(ASKED,)).start()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="enclave_runner.serving", description=__doc__)
    add = parser.add_argument
    add("--tcti", required=True)
    add("--bundle", type=Path, required=True)
    add("--memory", type=_folder, required=True, help="an empty folder in memory, for weights")
    add("--copies", type=_folder, required=True, help="an empty folder, for cleaned copies")
    add("--scratch", type=Path, required=True)
    add("--log", type=Path, required=True)
    add("--environment", type=Path, required=True, help="the engine's Python environment")
    add("--packages", type=Path, action="append", default=[], help="a folder of extra packages")
    add("--engine-memory", type=int, default=16 << 30)
    add("--engine-user", type=int)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0)
    add("--image", type=Digest.parse)
    add("--courier-key", type=Digest.parse, help="SHA-256 of the key of a courier at the port")
    return parser.parse_args(argv)


def _folder(text: str) -> Path:
    path = Path(text)
    path.mkdir(exist_ok=True)
    if any(path.iterdir()):
        raise ToolError(f"{text!a} is not empty")
    return path


if __name__ == "__main__":
    sys.exit(main())
