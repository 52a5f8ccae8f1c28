"""TLS on a real port of this computer."""

import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from enclave_runner.serving import tls
from enclave_runner.serving.listener import Listener
from enclave_runner.serving.tls import Channel, Identity
from enclave_runner.serving.wire import ChannelError
from tests.e2e.serving.serving_client import Client

NONCE = b"\x11" * 32
LONG = 600.0
PART = 1 << 15


def echo(channel: Channel) -> None:
    """Echo everything until the other end closes."""
    channel.until = time.monotonic() + LONG
    while data := channel.receive(1 << 16):
        channel.send(data)


@pytest.fixture
def identity() -> Identity:
    return tls.make_identity()


@pytest.fixture
def listener(identity: Identity) -> Iterator[Listener]:
    listener = Listener(("127.0.0.1", 0), tls.server_context(identity), echo, most=2)
    listener.start()
    yield listener
    listener.stop()


def echoed(client: Client, data: bytes) -> bytes:
    """Return the echo, part by part: only one thread may use a connection at a time."""
    received = b""
    for start in range(0, len(data), PART):
        part = data[start : start + PART]
        client.tls.sendall(part)
        while len(received) < start + len(part):
            received += client.tls.recv(1 << 16)
    return received


def test_both_ends_know_the_key_and_the_exporter(identity: Identity) -> None:
    exporters = []

    def serve(channel: Channel) -> None:
        exporters.append(channel.exporter)

    listener = Listener(("127.0.0.1", 0), tls.server_context(identity), serve)
    listener.start()
    for _ in range(2):
        with Client(listener.port) as client:
            channel = client.channel(NONCE)
            assert client.is_closed()
            assert (channel.spki, channel.exporter) == (identity.spki, exporters[-1])
            assert client.tls.get_protocol_version_name() == "TLSv1.3"
    listener.stop()
    # Each connection has its own exporter value, even with the same key.
    assert len(set(exporters)) == 2


def test_everything_comes_through(listener: Listener) -> None:
    with Client(listener.port) as client:
        for data in (b"x", bytes(range(256)) * 4096):
            assert echoed(client, data) == data


def test_an_older_tls_is_not_spoken(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port)) as connected:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(context, connected)
        client.set_connect_state()
        with pytest.raises(SSL.Error):
            client.do_handshake()


def test_no_session_is_resumed(listener: Listener) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    session = None
    for _ in range(2):
        connected = socket.create_connection(("127.0.0.1", listener.port))
        with context.wrap_socket(connected, session=session) as client:
            client.sendall(b"x")
            # Session tickets come before the answer.
            assert client.recv(1) == b"x"
            assert not client.session_reused
            session = client.session


def test_who_comes_when_all_rooms_are_taken_is_turned_away(listener: Listener) -> None:
    with Client(listener.port) as one, Client(listener.port) as two:
        assert echoed(one, b"x") == b"x"
        assert echoed(two, b"x") == b"x"
        with socket.create_connection(("127.0.0.1", listener.port)) as third:
            assert third.recv(1) == b""
        # Clients that are being served notice nothing.
        assert echoed(one, b"y") == b"y"


def test_who_says_nothing_is_not_waited_for(identity: Identity) -> None:
    listener = Listener(
        ("127.0.0.1", 0), tls.server_context(identity), echo, most=1, handshake_s=0.01
    )
    listener.start()
    with socket.create_connection(("127.0.0.1", listener.port)) as silent:
        assert silent.recv(1) == b""
    listener.stop()


def test_a_flood_of_connections_leaves_nothing_behind(listener: Listener) -> None:
    """Most connections are rejected, some hold a slot until they leave; then slots are free."""
    flood = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(100)]
    turned_away = [each for each in flood[2:] if each.recv(1) == b""]
    assert len(turned_away) == 98
    for each in flood:
        each.close()
    # A closed connection frees its slot a moment later.
    while True:
        try:
            with Client(listener.port) as client:
                assert echoed(client, b"x") == b"x"
                return
        except SSL.SysCallError:
            continue


def test_stop_ends_every_connection(listener: Listener) -> None:
    with Client(listener.port) as client:
        assert echoed(client, b"x") == b"x"
        listener.stop()
        assert client.is_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.port))


def test_a_channel_waits_until_its_deadline(identity: Identity) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ChannelError, match="took too long"):
            Channel(tls.server_context(identity), ours, time.monotonic() - 1)
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ChannelError, match=r"does not speak TLS 1\.3"):
            Channel(tls.server_context(identity), ours, time.monotonic() + LONG)


def test_who_leaves_within_the_handshake_is_an_end_like_others(identity: Identity) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # The alert close_notify, before any other record.
        theirs.sendall(b"\x15\x03\x03\x00\x02\x01\x00")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ChannelError):
            Channel(tls.server_context(identity), ours, time.monotonic() + LONG)


def test_a_boot_has_a_key_of_its_own(identity: Identity) -> None:
    other = tls.make_identity()
    assert other.boot != identity.boot
    assert len(identity.boot) == 64
