"""A courier that calls a machine at its port: the machine's own end, over TLS on this computer."""

import queue
import secrets
import socket
from collections.abc import Iterator

import pytest

from aicert.errors import ToolError
from aicert.formats.digest import of_bytes
from aicert.lease import courier
from aicert.lease.courier import Message
from enclave_runner.serving import tls
from enclave_runner.serving.entrance import Entrance
from rules.serving.caller import Callee, calling

KEY = secrets.token_hex(32)
READY = Message(kind=courier.READY, data=bytes(32))
ENDED = Message(kind=courier.ENDED, data=b"asked")
STOP = Message(kind=courier.STOP)


@pytest.fixture
def heard() -> queue.Queue[bytes]:
    return queue.Queue()


@pytest.fixture
def entrance(heard: queue.Queue[bytes]) -> Iterator[Entrance]:
    entrance = Entrance(("127.0.0.1", 0), tls.make_identity(), of_bytes(KEY.encode()))
    entrance.listen(heard.put)
    yield entrance
    entrance.finish(0)


def callee(port: int, key: str = KEY, boots_s: float = 600.0) -> Callee:
    return Callee(host="127.0.0.1", port=port, key=key, boots_s=boots_s, gone_s=0.0)


def test_lines_go_both_ways_until_the_machine_has_gone(
    entrance: Entrance, heard: queue.Queue[bytes]
) -> None:
    entrance.send(READY)
    called = Callee(host="127.0.0.1", port=entrance.port, key=KEY, boots_s=600.0)
    with calling(called) as link:
        assert link.heard.get() == READY
        link.ask(STOP)
        assert heard.get() == courier.emit(STOP)
        entrance.send(ENDED)
        assert link.heard.get() == ENDED
        # It has confirmed the last line.
        entrance.finish(600)


def test_a_machine_that_was_there_and_is_gone_has_ended(entrance: Entrance) -> None:
    entrance.send(READY)
    with calling(callee(entrance.port)) as link:
        assert link.heard.get() == READY
        assert link.heard.get() is None


def test_a_machine_that_never_boots_has_ended() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with calling(callee(silent.getsockname()[1], boots_s=0.0)) as link:
            assert link.heard.get() is None


def test_a_machine_that_knows_another_key_is_an_error(entrance: Entrance) -> None:
    with calling(callee(entrance.port, key="00" * 32)) as link:
        heard = {type(link.heard.get()), type(link.heard.get())}
        assert heard == {ToolError, type(None)}
