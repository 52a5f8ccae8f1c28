"""A custodian's broker and a borrower's machine, both real: uvicorn with TLS on loopback, its
ledger in SQLite, and a serving machine on a software TPM. This test is the courier between them.
"""

import base64
import json
import socket
import ssl
from pathlib import Path

import pytest

from aicert.cli import main
from aicert.lease import courier
from aicert.lease.courier import Message
from aicert.lease.terms import Terms
from enclave_runner.serving.lease_tpm import LeaseTpm
from tests.e2e.lease import broker_process
from tests.e2e.lease.broker_process import Desk
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.e2e.lease.test_lease_story import judged, pack
from tests.e2e.serving import test_serving_machine
from tests.e2e.serving.serving_client import Client
from tests.e2e.serving.stub_engine import StubEngine
from tests.e2e.serving.test_serving_machine import Courier, appraised
from tests.unit.signing_keys import Printed

folder = test_serving_machine.folder
stub = test_serving_machine.stub


def packed(folder: Path) -> Terms:
    """Pack a lease whose licences outlast any slow computer: they last an hour, like the grant."""
    return pack(folder, "--heartbeat-seconds", "3600")


def aicert(folder: Path, *words: str) -> int:
    return main.main(["lease", *words, "--ledger", str(folder / "ledger.db")])


def granted(folder: Path, printed: Printed, *more: str) -> str:
    """Return the token that `aicert lease grant` prints."""
    printed()
    words = ["grant", str(folder / "bot"), "--borrower", "acme", "--budget", "100k"]
    assert aicert(folder, *words, "--until", "1h", "--format", "json", *more) == 0
    token: str = json.loads(printed()[0])["token"]
    return token


def enrolled(carried: Courier, desk: Desk) -> bytes:
    """Enrol the machine at the broker. Returns the blob, which the machine has too."""
    nonce = json.loads(desk.post("/v1/challenge"))["nonce"]
    shown = carried.ask(courier.ENROL, bytes.fromhex(nonce)).data
    blob = base64.b64decode(json.loads(desk.post("/v1/enrol", shown))["blob"])
    carried.ask(courier.BLOB, blob)
    return blob


def resumed(carried: Courier, desk: Desk) -> bytes:
    """Return the nonce for a boot's first receipt; the machine continues where its receipts
    ended.
    """
    given = desk.nonce(carried.identity.boot)
    if given["seq"]:
        carried.ask(courier.RESUME, bytes.fromhex(given["head"]), seq=given["seq"])
    return bytes.fromhex(given["nonce"])


def beaten(carried: Courier, desk: Desk, nonce: bytes | None = None) -> Message:
    """Make one heartbeat. Returns the machine's message after it has received its order."""
    asked = nonce or bytes.fromhex(desk.nonce(carried.identity.boot)["nonce"])
    receipt = carried.ask(courier.HEARTBEAT, asked)
    assert receipt.kind == courier.RECEIPT, receipt
    return carried.ask(courier.ORDER, desk.post("/v1/receipt", receipt.data))


def test_a_broker_leases_to_a_machine_until_it_revokes(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    broker_process.write_tls(folder)
    agreed = packed(folder)
    token = granted(folder, printed)
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub)
        with broker_process.running(folder, token) as desk:
            enrolled(carried, desk)
            assert beaten(carried, desk, resumed(carried, desk)).kind == courier.SERVING
            with Client(carried.port) as client:
                assert appraised(client, folder).statement.model == agreed.model
                assert client.chat().document["usage"]["completion_tokens"] == 3
            # The broker dies after it has answered, before anybody has received the answer.
            asked = bytes.fromhex(desk.nonce(carried.identity.boot)["nonce"])
            receipt = carried.ask(courier.HEARTBEAT, asked).data
            lost = desk.post("/v1/receipt", receipt)
            assert desk.process is not None
            desk.process.kill()
        with broker_process.running(folder, token) as desk:
            assert desk.post("/v1/receipt", receipt) == lost
            assert carried.ask(courier.ORDER, lost).kind != courier.REFUSED
            beaten(carried, desk)
            assert not carried.machine.over.is_set()
            # Another boot of a copy of this machine has to wait until this one ends.
            status, headers, _ = desk.send("POST", "/v1/nonce", b'{"boot":"%b"}' % (b"0" * 64))
            assert (status, 0 < int(headers["retry-after"]) <= 3600) == (409, True)
            # The custodian revokes the lease while the broker runs.
            assert aicert(folder, "revoke", str(folder / "bot")) == 0
            before = len(carried.of(courier.RECEIPT))
            assert beaten(carried, desk).data == b"revoke"
            assert carried.machine.over.is_set()
            for line in carried.of(courier.RECEIPT)[before + 1 :]:
                assert desk.post("/v1/receipt", line.data) == b""
            status, _, body = desk.send("POST", "/v1/nonce", b'{"boot":"%b"}' % (b"0" * 64))
            assert (status, json.loads(body)["check"]) == (403, "ledger.state")
    printed()
    assert aicert(folder, "status", "--format", "json", "--receipts", str(folder / "audit"),
                  "--html", str(folder / "page.html")) == 0  # fmt: skip
    (use,) = json.loads(printed()[0])
    assert (use["state"], use["tokens"], use["receipts"]) == (
        "revoked, obeyed", {"in": 7, "out": 3}, 6,
    )  # fmt: skip
    assert "revoked, obeyed" in (folder / "page.html").read_text()
    # A person who does not trust the broker verifies what it kept, and adds it up.
    kept = folder / "audit/1"
    words = ["receipts", str(kept / "receipts.jsonl"), "--enrolment", str(kept / "enrolment.json")]
    assert judged(folder, *words) == 0
    text = printed()[0]
    assert "\ntokens    7 in, 3 out, 0 refused, of 1 request\n" in text
    assert "\nended     by order revoke: the epoch is " in text


def test_a_boot_that_stops_by_order_is_followed_by_another(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    broker_process.write_tls(folder)
    packed(folder)
    token = granted(folder, printed)
    with broker_process.running(folder, token) as desk:
        blob = b""
        for number in range(2):
            stub.alive = True
            with power.on() as opened, LeaseTpm(opened) as tpm:
                carried = Courier(folder, tpm, stub, number)
                if number:
                    carried.ask(courier.BLOB, blob)
                else:
                    blob = enrolled(carried, desk)
                nonce = resumed(carried, desk)
                assert beaten(carried, desk, nonce).kind == courier.SERVING
                with Client(carried.port) as client:
                    assert client.chat().status == 200
                desk.post("/v1/end")
                before = len(carried.of(courier.RECEIPT))
                assert beaten(carried, desk).data == b"stop"
                for line in carried.of(courier.RECEIPT)[before + 1 :]:
                    desk.post("/v1/receipt", line.data)
        state = json.loads(desk.send("GET", "/v1/state")[2])
    assert (state["tokensIn"], state["tokensOut"], state["charged"]) == (14, 6, 0)


def test_enrol_chain_of_a_software_tpm_that_the_policy_does_not_name(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A broker never leases to a software TPM unless the policy allows it."""
    broker_process.write_tls(folder)
    packed(folder)
    token = granted(folder, printed)
    google = broker_process.words(folder, "--policy", "google")
    monkeypatch.setattr(broker_process, "words", lambda _: google)
    with (
        broker_process.running(folder, token) as desk,
        power.on() as opened,
        LeaseTpm(opened) as tpm,
    ):
        carried = Courier(folder, tpm, stub)
        nonce = json.loads(desk.post("/v1/challenge"))["nonce"]
        shown = carried.ask(courier.ENROL, bytes.fromhex(nonce)).data
        status, _, body = desk.send("POST", "/v1/enrol", shown)
        assert (status, json.loads(body)["check"]) == (403, "enrol.chain")
        carried.ask(courier.STOP)


def test_the_port_speaks_tls_13_and_http_of_one_form(folder: Path, printed: Printed) -> None:
    broker_process.write_tls(folder)
    packed(folder)
    token = granted(folder, printed)
    with broker_process.running(folder, token) as desk:
        status, headers, body = desk.send("GET", "/v1/state")
        assert (status, json.loads(body)["budget"]) == (200, 100_000)
        assert set(headers) == {"cache-control", "content-length", "content-type"}
        assert desk.send("GET", "/v1/state?x")[0] == 404
        assert desk.send("GET", "/v1/%73tate")[0] == 404
        assert desk.send("POST", "/v1/enrol", b"x" * (1 << 18))[0] == 413
        desk.token = "0" * 64
        assert desk.send("GET", "/v1/state")[0] == 401
        old = ssl.create_default_context(cafile=str(folder / "tls.pem"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", desk.port), timeout=600) as plain:
            with pytest.raises(ssl.SSLError):
                old.wrap_socket(plain, server_hostname="127.0.0.1")
        # Bytes that are not HTTP end only the connection that they came on.
        new = ssl.create_default_context(cafile=str(folder / "tls.pem"))
        with (
            socket.create_connection(("127.0.0.1", desk.port), timeout=600) as plain,
            new.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(b"GET /v1/state HTTP/1.1\r\nContent-Length: 1\r\n"
                        b"Transfer-Encoding: chunked\r\nX\r\n\r\n")  # fmt: skip
            assert tls.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
        desk.token = token
        assert desk.send("GET", "/v1/state")[0] == 200
        assert desk.process is not None
        desk.process.terminate()
        assert desk.process.stderr is not None
        # The broker logs nothing that strangers send.
        assert desk.process.stderr.read() == ""
