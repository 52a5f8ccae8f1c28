"""Attacks on a consumer's connection (lease.md, rows 25 to 30).

The named check refuses each one before any byte of a prompt is sent.
"""

import socket
import ssl
from functools import partial
from typing import Any

import pytest

from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError, UndecidedError
from aicert.frozen import replace
from aicert.lease import serving
from aicert.lease.checks import RefusedError
from aicert.leasing.serving import Channel
from aicert.serving import connections, wire
from aicert.serving.connections import Pool, open_judged
from enclave_runner.serving import tls
from enclave_runner.serving.requests import CHAT
from tests.adversarial import ca_forge
from tests.adversarial.enrolment_forge import ak_certificate, policy
from tests.e2e.serving.stub_engine import StubEngine
from tests.unit.aicert.leasing.test_serving import CERTIFIED, leased
from tests.unit.aicert.serving import machines
from tests.unit.aicert.serving.machines import MESSAGES, Forged, Machine, honest, wanted
from tests.vectors.leases import LEASE, agreed

OTHER = b"\xee" * 32
ASKED = (b'{"max_tokens":3,"messages":[{"content":"%b","role":"user"}]}'
         % MESSAGES[0]["content"].encode())  # fmt: skip


def refusal(port: int, **changes: Any) -> AicertError:
    """Return why a connection is refused; opening it is an error."""
    try:
        open_judged(wanted(port, **changes)).close()
    except AicertError as error:
        return error
    raise AssertionError("it was opened")


def test_an_honest_machine_is_asked_after_it_was_judged(stub: StubEngine) -> None:
    with Machine(stub) as machine:
        connection = open_judged(wanted(machine.port))
        assert not machine.was_asked()
        head = connection.ask("POST", CHAT, ASKED)
        assert b"one two three" in connection.whole(head)
        connection.close()
        assert machine.was_asked()
        assert (connection.shown.spki, connection.shown.served.terms) == (
            machine.identity.spki, leased(),
        )  # fmt: skip
    assert b"POST /aicert/evidence" in machine.seen[0]


def test_serve_channel_of_a_relay_with_a_key_of_its_own(stub: StubEngine) -> None:
    read: list[bytes] = []
    with Machine(stub) as machine, machines.relay(machine.port, tls.make_identity(), read) as port:
        error = refusal(port)
    assert isinstance(error, RefusedError)
    assert (error.check, error.exit_code) == ("serve.channel", 1)
    assert not machine.was_asked()
    assert len(read) == 1


def test_serve_channel_of_a_relay_with_the_machines_stolen_key(stub: StubEngine) -> None:
    """Key and nonce are right; only the exporter value differs."""
    read: list[bytes] = []
    with Machine(stub) as machine, machines.relay(machine.port, machine.identity, read) as port:
        error = refusal(port)
    assert isinstance(error, RefusedError)
    assert error.check == "serve.channel"
    assert not machine.was_asked()


def replayed(kept: list[bytes], nonce: bytes, channel: Channel) -> bytes:
    """Return the evidence of the first connection on every connection."""
    kept.append(honest(nonce, channel))
    return kept[0]


def test_serve_fresh_of_evidence_that_is_replayed(stub: StubEngine) -> None:
    with Machine(stub, forged=partial(replayed, [])) as machine:
        open_judged(wanted(machine.port)).close()
        error = refusal(machine.port)
    assert isinstance(error, RefusedError)
    assert error.check == "serve.fresh"
    assert not machine.was_asked()


def renamed(kept: list[bytes], nonce: bytes, channel: Channel) -> bytes:
    """Put the replayed evidence under this connection's nonce, which no signature covers."""
    old = serving.parse(replayed(kept, nonce, channel))
    return serving.emit(replace(old, nonce=nonce))


def forged(**changes: Any) -> Forged:
    return lambda nonce, channel: honest(nonce, channel, **changes)


def bound(**changes: Any) -> Forged:
    return lambda nonce, channel: honest(nonce, replace(channel, **changes))


@pytest.mark.parametrize(
    ("check", "evidence"),
    [
        ("serve.channel", bound(exporter=OTHER)),
        ("serve.channel", bound(spki=b"another key")),
        ("serve.channel", bound(nonce=OTHER)),
        ("serve.fresh", lambda nonce, channel: honest(OTHER, channel)),
        # Another machine of the custodian's, with other terms or another model; stopped; resumed.
        ("serve.lease", forged(of=leased(lease="0" * 32))),
        ("serve.terms", forged(stated={"certificate": leased(tick_tokens=1).digest})),
        ("serve.model", forged(of=agreed())),
        ("serve.registers", forged(values={"pcr8": OTHER})),
        ("serve.image", forged(values={"pcr11": OTHER})),
        ("serve.firmware", forged(values={"pcr2": OTHER})),
        ("serve.chain", forged(chain=(ak_certificate(ca_forge.ec_key("stranger")),))),
        ("serve.quote", forged(ak=ca_forge.ec_key("stranger"))),
        ("serve.boot", forged(meter={"restart": 1})),
    ],
)  # fmt: skip
def test_evidence_that_says_no_is_refused_by_its_check(
    stub: StubEngine, check: str, evidence: Forged
) -> None:
    with Machine(stub, forged=evidence) as machine:
        error = refusal(machine.port)
    assert isinstance(error, RefusedError)
    assert (error.check, error.exit_code) == (check, 1)
    assert not machine.was_asked()


def test_serve_channel_of_old_evidence_under_a_new_nonce(stub: StubEngine) -> None:
    with Machine(stub, forged=partial(renamed, [])) as machine:
        open_judged(wanted(machine.port)).close()
        error = refusal(machine.port)
    assert isinstance(error, RefusedError)
    assert error.check == "serve.channel"


def test_serve_tier_of_a_simulated_machine_under_a_clouds_policy(stub: StubEngine) -> None:
    with Machine(stub) as machine:
        error = refusal(machine.port, policy=policy(tier="vtpm"))
    assert isinstance(error, RefusedError)
    assert error.check == "serve.tier"


def test_serve_lease_that_is_not_the_consumers(stub: StubEngine) -> None:
    with Machine(stub) as machine:
        error = refusal(machine.port, lease="0" * 32)
    assert isinstance(error, RefusedError)
    assert error.check == "serve.lease"


def test_serve_model_of_another_certificate(stub: StubEngine) -> None:
    others = replace(CERTIFIED, subject={"model": "dirHash:" + "8e" * 32})
    with Machine(stub) as machine:
        error = refusal(machine.port, certified=others)
    assert isinstance(error, RefusedError)
    assert error.check == "serve.model"


def test_serve_boot_that_is_another_than_the_first(stub: StubEngine, port: int) -> None:
    """The restarted machine has a new key: the client does not even ask it for evidence."""
    with Machine(stub, port=port):
        first = open_judged(wanted(port))
        first.close()
    with Machine(stub, port=port) as again:
        with pytest.raises(RefusedError, match=r"^serve\.boot: .*another TLS key") as refused:
            open_judged(wanted(port), first.shown)
        assert refused.value.exit_code == 1
    assert b"".join(again.seen) == b""


def test_serve_boot_that_states_something_else_with_the_same_key(stub: StubEngine) -> None:
    with Machine(stub) as machine:
        first = open_judged(wanted(machine.port))
        first.close()
        open_judged(wanted(machine.port), first.shown).close()
        machine.forged = forged(stated={"boots": 4})
        with pytest.raises(RefusedError, match=r"^serve\.boot: .*states something else"):
            open_judged(wanted(machine.port), first.shown)


def test_an_undecided_certificate_is_no_yes(stub: StubEngine) -> None:
    open_ = replace(
        CERTIFIED,
        checks=tuple(
            replace(one, verdict="not-checked") if one.id == "quote.nonce" else one
            for one in CERTIFIED.checks
        ),
    )
    with Machine(stub) as machine:
        error = refusal(machine.port, certified=open_)
    assert isinstance(error, UndecidedError)
    assert error.exit_code == 2
    assert not machine.was_asked()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"2\r\n\r\n{}",
        HEAD + b"2\r\n\r\n[]",
        HEAD + b"999999999\r\n\r\n{",
        HEAD + b"200000\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: https://x\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
        b"SSH-2.0-OpenSSH_10.0\r\n",
        b"x" * (1 << 17),
    ],
)
def test_whatever_a_server_says_in_place_of_evidence_no_prompt_goes_there(answer: bytes) -> None:
    seen: list[bytes] = []

    def answers(data: bytes, _: object) -> bytes:
        seen.append(data)
        return answer

    with machines.saying(answers) as port:
        error = refusal(port)
    assert isinstance(error, EvidenceError)
    assert error.exit_code == 2
    assert len(seen) == 1
    assert seen[0].startswith(b"POST /aicert/evidence ")


def broken(_: bytes, channel: tls.Channel) -> None:
    channel.send(HEAD)


def test_a_server_that_leaves_is_not_reached_or_ends_early(port: int) -> None:
    with machines.saying(lambda *_: None, port=port):
        assert isinstance(refusal(port), ToolError)
        # The connection breaks in the middle of a message.
    with machines.saying(broken, port=port):
        assert isinstance(refusal(port), ToolError)
    error = refusal(port)
    assert isinstance(error, ToolError)
    assert "cannot reach 127.0.0.1:" in error.message


def test_a_downgrade_to_an_older_tls_is_refused(tmp_path: Any) -> None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    identity = tls.make_identity()
    pem = identity.certificate.public_bytes(Encoding.PEM) + identity.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tmp_path / "server.pem")

    refused: list[ssl.SSLError] = []

    def serve(connected: socket.socket) -> None:
        try:
            context.wrap_socket(connected, server_side=True)
        except ssl.SSLError as error:
            refused.append(error)

    with machines.listening(serve) as port:
        error = refusal(port)
    assert isinstance(error, ToolError)
    assert "does not speak TLS 1.3" in error.message
    assert len(refused) == 1


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28"]
)
def test_no_tls_at_all_is_refused(data: bytes) -> None:
    heard: list[bytes] = []

    def serve(connected: socket.socket) -> None:
        heard.append(connected.recv(1 << 16))
        connected.sendall(data)
        heard.append(connected.recv(1 << 16))

    with machines.listening(serve) as port:
        error = refusal(port)
    assert isinstance(error, ToolError)
    assert heard[0]
    assert b"evidence" not in b"".join(heard)


def test_a_server_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_S", 0.05)
    silent = machines.listening(lambda connected: connected.recv(1 << 20) and connected.recv(1))
    with silent as port:
        error = refusal(port)
    assert isinstance(error, ToolError)


def test_a_tls_key_of_another_kind_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    own = ec.generate_private_key(ec.SECP384R1())
    der = ca_forge.root("other", own)
    from cryptography import x509

    identity = tls.Identity(key=own, certificate=x509.load_der_x509_certificate(der), spki=b"")
    with machines.saying(lambda *_: None, identity) as port:
        error = refusal(port)
    assert isinstance(error, EvidenceError)
    assert "the machine's TLS certificate: the key is not P-256" in error.message


def test_a_pool_gives_a_connection_again_only_while_it_is_fresh_and_silent(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Machine(stub) as machine:
        pool = Pool(lambda: open_judged(wanted(machine.port)))

        def ask() -> None:
            with pool.taken() as connection:
                assert connection.whole(connection.ask("GET", "/v1/models", b""))

        ask()
        ask()
        assert machine.connections == 1
        for name in ("IDLE_S", "AGE_S"):
            with monkeypatch.context() as patched:
                patched.setattr(connections, name, 0.0)
                ask()
        assert machine.connections == 3
        # A failed connection is not used again, and no error is swallowed.
        with pytest.raises(ValueError, match=r"^mine$"):
            with pool.taken():
                raise ValueError("mine")
        ask()
        assert machine.connections == 4
        pool.close()
        with pytest.raises(ToolError, match="the endpoint was closed"):
            ask()


def test_a_pool_that_is_closed_ends_what_waits(stub: StubEngine) -> None:
    with Machine(stub) as machine:
        pool = Pool(lambda: open_judged(wanted(machine.port)))
        with pytest.raises(ToolError, match=r"the connection to the machine ended|closed"):
            with pool.taken() as connection:
                pool.close()
                connection.whole(connection.ask("GET", "/v1/models", b""))
        with Machine(stub) as other:
            second = Pool(lambda: open_judged(wanted(other.port)))
            with second.taken() as connection:
                connection.whole(connection.ask("GET", "/v1/models", b""))
                second.close()


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\n", b""])
def test_a_connection_whose_other_end_spoke_unasked_or_left_is_not_used_again(
    stub: StubEngine, more: bytes
) -> None:
    kept: list[tls.Channel] = []
    body = b'{"object":"list"}'

    def answers(data: bytes, channel: tls.Channel) -> bytes:
        if data.startswith(b"POST /aicert"):
            kept.append(channel)
            nonce = bytes.fromhex(data.rpartition(b'"nonce":"')[2][:64].decode())
            evidence = honest(nonce, Channel(nonce=nonce, spki=spki, exporter=channel.exporter))
            return HEAD + b"%d\r\n\r\n" % len(evidence) + evidence
        is_last = b"connection: close\r\n" if not more else b""
        head = HEAD.replace(b"content-length", is_last + b"content-length")
        return head + b"%d\r\n\r\n" % len(body) + body + more

    identity = tls.make_identity()
    spki = identity.spki
    with machines.saying(answers, identity) as port:
        pool = Pool(lambda: open_judged(wanted(port)))
        for _ in range(2):
            with pool.taken() as connection:
                assert connection.whole(connection.ask("GET", "/v1/models", b"")) == body
        assert len(kept) == 2
        pool.close()


def test_what_answers_before_it_is_asked_is_asked_nothing() -> None:
    """Bytes after the evidence would be taken for the answer to the first prompt."""
    identity = tls.make_identity()
    seen: list[bytes] = []

    def answers(data: bytes, channel: tls.Channel) -> bytes:
        seen.append(data)
        nonce = bytes.fromhex(data.rpartition(b'"nonce":"')[2][:64].decode())
        shown = Channel(nonce=nonce, spki=identity.spki, exporter=channel.exporter)
        evidence = honest(nonce, shown)
        return HEAD + b"%d\r\n\r\n" % len(evidence) + evidence + HEAD + b"2\r\n\r\n{}"

    with machines.saying(answers, identity) as port:
        connection = open_judged(wanted(port))
        with pytest.raises(wire.AnswerError, match="answered before it was asked"):
            connection.ask("POST", CHAT, ASKED)
        connection.close()
    assert len(seen) == 1


def test_what_is_accepted_of_the_machine_may_be_something_else() -> None:
    given: dict[str, Any] = dict.fromkeys(
        ("root", "image", "certificates_root", "certificates_image")
    )
    of_certificate, own = policy(), policy(name="own")
    assert connections.machine_policy(None, of_certificate, **given) is of_certificate
    assert connections.machine_policy(own, of_certificate, **given) is own
    given["certificates_root"] = "missing.pem"
    assert connections.machine_policy(own, of_certificate, **given) is own
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        connections.machine_policy(None, of_certificate, **given)


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:8443", "http://127.0.0.1:8443", "https://", "https://h:0", "https://h:x",
        "https://h:70000", "https://h/v1", "https://h?x", "https://h#x", "https://me@h",
        "https://h\n", "https://h h", "https://ü", "https://[::1", "ftp://h",
    ],
)  # fmt: skip
def test_an_address_has_one_form(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a serving machine") as refused:
        connections.target_machine(url, LEASE, CERTIFIED, policy())
    assert refused.value.exit_code == 3


def test_addresses_and_leases_that_are_right() -> None:
    for url, host, port, authority in (
        ("https://10.0.0.4:8443", "10.0.0.4", 8443, "10.0.0.4:8443"),
        ("https://machine.example/", "machine.example", 443, "machine.example:443"),
        ("https://[::1]:1", "::1", 1, "[::1]:1"),
    ):
        given = connections.target_machine(url, LEASE, CERTIFIED, policy())
        assert (given.host, given.port, given.authority) == (host, port, authority)
    with pytest.raises(ConfigError, match="a lease has 32 hexadecimal digits"):
        connections.target_machine("https://h", LEASE[1:], CERTIFIED, policy())


def test_a_machine_that_has_no_name_is_not_reached() -> None:
    # Longer than a label of a host name may be: no server is asked.
    error = refusal(443, host="x" * 64 + ".invalid")
    assert isinstance(error, ToolError)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "aicert.serving.tls", raising=False)
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    error = refusal(1)
    assert (error.hint or "").endswith("pip install '.[connect]'")
    assert "OpenSSL, which is not installed" in error.message
