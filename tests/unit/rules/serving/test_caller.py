"""A courier that calls a machine at its port: the machine's own end, over TLS on this computer."""

import queue
import secrets
import socket
import threading
from collections.abc import Iterator

import pytest

from aicert.errors import ToolError
from aicert.formats.digest import of_bytes
from aicert.frozen import replace
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


@pytest.fixture
def silent() -> Iterator[int]:
    """Return a port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def error_of(called: Callee) -> str:
    """Return the message of the error with which the line ends."""
    with calling(called) as link:
        error = link.heard.get()
        assert isinstance(error, ToolError)
        assert link.heard.get() is None
    return error.message


def test_a_machine_that_never_answers_is_given_up(silent: int) -> None:
    words = f"the machine did not answer at 127.0.0.1:{silent} within 0.0 s"
    assert error_of(callee(silent, boots_s=0.0)) == words


def test_a_machine_that_went_off_before_it_answered_is_not_awaited(silent: int) -> None:
    looks = iter([False, True])
    called = replace(callee(silent), has_ended=lambda: next(looks))
    assert error_of(called) == "the machine powered off before it answered its courier"


def test_nobody_waits_for_a_machine_that_is_no_longer_wanted(silent: int) -> None:
    asked = threading.Event()

    def has_ended() -> bool:
        asked.set()
        return False

    with calling(replace(callee(silent), has_ended=has_ended)) as link:
        assert asked.wait(600)
    assert link.heard.get() is None


def test_a_machine_that_knows_another_key_is_an_error(entrance: Entrance) -> None:
    with calling(callee(entrance.port, key="00" * 32)) as link:
        heard = {type(link.heard.get()), type(link.heard.get())}
        assert heard == {ToolError, type(None)}
