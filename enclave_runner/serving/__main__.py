"""A serving machine as a process: `python -m enclave_runner.serving …`.

The courier's lines come on standard input, and the machine's go to standard output. A courier who
leaves ends nothing: the deadline does. Exit code 0 where serving ended as it was told or licensed.
"""

import argparse
import functools
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aicert.errors import AicertError, ToolError
from aicert.formats.digest import Digest
from aicert.lease import courier, orders
from aicert.lease.courier import Message
from enclave_runner.attester.tpm import Tpm
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.serving import load, running, tls
from enclave_runner.serving.lease_tpm import LeaseTpm
from enclave_runner.serving.machine import ASKED, Machine, Place
from enclave_runner.serving.opened import DEADLINE
from enclave_runner.serving.running import EngineSettings, Running

_AS_LICENSED: Final = (ASKED, DEADLINE, orders.REVOKE, orders.STOP)
# Lines that wait for a courier who reads slowly, and how long his last ones are waited for.
_WAITING: Final = 256
_LAST_WORDS_S: Final = 10.0
_POLL_S: Final = 0.01


class Teller:
    """Writes lines whole to `descriptor`, and waits for nobody: who does not read loses lines. What
    watches the deadline tells, too, and a courier must not be able to hold it up.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(_WAITING)
        threading.Thread(target=self._write, name="teller", daemon=True).start()

    def tell(self, message: Message) -> None:
        """One line."""
        try:
            self._lines.put_nowait(courier.emit(message))
        except queue.Full:
            # A receipt that is lost like this is the courier's loss: the next one names it.
            return

    def finish(self, seconds: float) -> None:
        """Wait until what was told is written, but no longer than that."""
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
                # Nobody reads any more: what follows is thrown away.
                pass
            self._lines.task_done()


def main(argv: list[str] | None = None) -> int:
    """Serve until it is over."""
    arguments = _arguments(argv)
    # A process that fails leaves no picture of its memory, where keys and weights are.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with Tpm(arguments.tcti) as opened, LeaseTpm(opened) as tpm:
            return 0 if _serve(arguments, tpm) in _AS_LICENSED else 1
    except AicertError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code


def _serve(arguments: argparse.Namespace, tpm: LeaseTpm) -> str:
    """Why it is over."""
    # An engine that was broken can write what it has into its scratch and its log.
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
    place = Place(
        memory=arguments.memory,
        copies=arguments.copies,
        address=(arguments.host, arguments.port),
        model_types=axolotl_keys().model_types,
        start=functools.partial(Running, settings),
    )
    teller = Teller(sys.stdout.fileno())
    machine = Machine(
        tpm,
        load.read_bundle(arguments.bundle),
        place,
        tls.make_identity(),
        teller.tell,
        image=arguments.image,
    )
    # A handler runs between any two steps of this thread, which may hold what the end needs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _in_a_thread(machine))
    machine.ready()
    threading.Thread(target=_listen, args=(machine,), daemon=True).start()
    machine.over.wait()
    teller.finish(_LAST_WORDS_S)
    return machine.reason


def _listen(machine: Machine) -> None:
    for line in lines(sys.stdin.fileno()):
        machine.asked(line)


def lines(descriptor: int) -> Iterator[bytes]:
    """Each line; one without end is given in parts, which nobody takes for a message.

    Not the stream's own reader: a thread that waits in there is fatal when the process ends.
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
    add("--copies", type=_folder, required=True, help="an empty folder, for files made anew")
    add("--scratch", type=Path, required=True)
    add("--log", type=Path, required=True)
    add("--environment", type=Path, required=True, help="the engine's environment of Python")
    add("--packages", type=Path, action="append", default=[], help="beside the environment's")
    add("--engine-memory", type=int, default=16 << 30)
    add("--engine-user", type=int)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0)
    add("--image", type=Digest.parse)
    return parser.parse_args(argv)


def _folder(text: str) -> Path:
    path = Path(text)
    path.mkdir(exist_ok=True)
    if any(path.iterdir()):
        raise ToolError(f"{text!a} is not empty")
    return path


if __name__ == "__main__":
    sys.exit(main())
