"""The serving program with its courier and its clients at one port, on a real software TPM.

It runs in this process: its own thread is the test's, and the courier's is another. The engine is a
stub.
"""

import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aicert.formats.digest import of_bytes
from aicert.lease import courier
from aicert.lease.courier import Message
from enclave_runner.serving import __main__ as process
from enclave_runner.serving import running
from enclave_runner.serving.lease_tpm import LeaseTpm
from rules.serving.caller import Callee, calling
from rules.serving.link import Link
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.e2e.lease.test_lease_story import NONCE, issue, pack
from tests.e2e.serving import test_serving_machine
from tests.e2e.serving.serving_client import Client
from tests.e2e.serving.stub_engine import StubEngine
from tests.e2e.serving.test_serving_machine import appraised

KEY = secrets.token_hex(32)
folder = test_serving_machine.folder
stub = test_serving_machine.stub


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the handlers that the program replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def program(
    folder: Path, memory: Path, stub: StubEngine, monkeypatch: pytest.MonkeyPatch, signals: None
) -> tuple[int, Callable[[LeaseTpm], str]]:
    """Return the program's port, and what serves there with the stub until it is over."""
    monkeypatch.setattr(process, "Running", lambda *_: stub)
    monkeypatch.setattr(running, "transformers", lambda settings: settings)
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
    words = ["--tcti", "", "--bundle", str(folder / "bot"), "--port", str(port)]
    for name in ("memory", "copies", "scratch", "log", "environment"):
        words += [f"--{name}", str(memory / name)]
    words += ["--courier-key", str(of_bytes(KEY.encode()))]
    return port, lambda tpm: process._serve(process._arguments(words), tpm)


def next_of(link: Link, kind: str) -> Message:
    while True:
        heard = link.heard.get(timeout=600)
        assert isinstance(heard, Message), heard
        if heard.kind == kind:
            return heard
        assert heard.kind == courier.STATE, heard


def opened(link: Link, folder: Path) -> int:
    """Open the lease without a broker, as a courier does. Returns the port for clients."""
    next_of(link, courier.READY)
    link.ask(Message(kind=courier.ENROL, data=NONCE))
    shown = next_of(link, courier.ENROLMENT)
    (folder / "enrolment.json").write_bytes(shown.data)
    assert issue(folder, "--offline") == 0
    for kind in (courier.BLOB, courier.LICENCE):
        link.ask(Message(kind=kind, data=(folder / "issued" / kind).read_bytes()))
    return next_of(link, courier.SERVING).number["port"]


def terminate() -> None:
    """Interrupt the test's own thread, which waits for the end of serving."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)


@pytest.mark.parametrize("by_signal", [False, True])
def test_courier_and_clients_share_the_port_until_serving_ends(
    folder: Path,
    power: BorrowersTpm,
    program: tuple[int, Callable[[LeaseTpm], str]],
    by_signal: bool,
) -> None:
    port, serve = program
    agreed = pack(folder, "--offline")
    failed: list[BaseException] = []
    over = threading.Event()

    def carry() -> None:
        callee = Callee(host="127.0.0.1", port=port, key=KEY, boots_s=600.0)
        with calling(callee) as link:
            assert opened(link, folder) == port
            with Client(port) as client:
                assert appraised(client, folder).statement.model == agreed.model
                assert client.chat().document["usage"]["completion_tokens"] == 3
                if by_signal:
                    terminate()
                else:
                    link.ask(Message(kind=courier.STOP))
                assert next_of(link, courier.ENDED).data == b"asked"
                assert client.is_closed()
            # The courier still has to confirm the last line.
            assert over.wait(600)

    def carried() -> None:
        try:
            carry()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)
            terminate()

    with power.on() as tpm, LeaseTpm(tpm) as lease:
        thread = threading.Thread(target=carried)
        thread.start()
        reason = serve(lease)
        over.set()
        thread.join()
    assert failed == []
    assert reason == "asked"
