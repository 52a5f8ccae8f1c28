"""`./doit serve` on `local`: a broker, a courier, a machine with the real engine, and a consumer.

The machine is the one that is booted elsewhere, here as a process; the broker is a process too.
Only the wait is shortened: the next heartbeat comes when the test wants it.
"""

import io
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import aicert.serving
from aicert.cli import main
from aicert.errors import AicertError, ConfigError, ToolError
from aicert.lease import orders
from rules.machines.ca import local_ca
from rules.project import config
from rules.serving import courier, lease_state, power, serve
from rules.serving.broker_client import RefusedHereError
from rules.serving.screen import Screen
from tests.e2e.conftest import Checkout
from tests.e2e.lease import broker_process
from tests.e2e.lease.test_broker import granted
from tests.e2e.lease.test_lease_story import pack
from tests.e2e.serving.test_connect import client
from tests.e2e.serving.test_serving_process import lay_out
from tests.unit.aicert.cli.test_main import AT
from tests.unit.signing_keys import Printed

pytestmark = pytest.mark.slow

STREAMED = """
import json, openai
client = openai.OpenAI()
asked = dict(messages=[{"role": "user", "content": "hello"}], max_tokens=3, model="%s")
parts = list(client.chat.completions.create(
    **asked, stream=True, stream_options={"include_usage": True}
))
print(json.dumps({"tokens": parts[-1].usage.completion_tokens, "parts": len(parts)}))
"""


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def leased(checkout: Checkout, port: int, lines: str) -> config.Project:
    """Return the checkout's own project, with a lease of the bundle at leases/bot."""
    path = checkout.root / config.FILE
    text = f"""
[machines.desk]
driver = "local"
port = {port}

[leases.bot]
model = "path:leases/bot"
machine = "desk"
{lines}
"""
    path.write_text(path.read_text() + text)
    return config.load(checkout.root)


@pytest.fixture
def desk_folder(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the custodian's folder; its bundle is also the borrower's."""
    monkeypatch.setenv("AICERT_CACHE", checkout.environment["AICERT_CACHE"])
    folder = checkout.root / "leases"
    folder.mkdir()
    ca = local_ca(checkout.root, "local")
    (folder / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    lay_out(folder)
    return folder


class Watched(Screen):
    """A screen that nobody sees. `during` runs in a thread of its own once the machine serves."""

    def __init__(self, during: Callable[[str], None], ticks: int = 1000) -> None:
        self._written = io.StringIO()
        super().__init__("bot", ticks, stream=self._written)
        self._during = during
        self.failed: list[BaseException] = []
        self.notes: list[str] = []
        self.states: list[dict[str, int]] = []

    def written(self) -> str:
        return self._written.getvalue()

    def serving(self, url: str) -> None:
        super().serving(url)
        threading.Thread(target=self._run, args=(url,)).start()

    def _run(self, url: str) -> None:
        try:
            self._during(url)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failed.append(error)
            signal.raise_signal(signal.SIGINT)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def state(self, message: Any) -> None:
        super().state(message)
        self.states.append(message.number)


@pytest.fixture
def beat(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes the next heartbeat due now."""
    carriers: list[courier.Carrier] = []

    def never(carrier: courier.Carrier) -> None:
        carriers.append(carrier)
        carrier._next_beat = float("inf")

    monkeypatch.setattr(courier.Carrier, "_set_next_beat", never)

    def now() -> None:
        carriers[-1]._next_beat = 0.0

    monkeypatch.setattr(courier, "MOST_WAIT_S", 0.1)
    return now


def run(project: config.Project, screen: Watched, token: Path | None = None) -> int:
    code = serve.serve(project, project.lease("bot"), token=token, nonce="", screen=screen)
    if screen.failed:
        raise screen.failed[0]
    return code


def consumer(folder: Path, url: str, lease: str) -> Any:
    """Return a verified endpoint, opened as `aicert connect` opens it."""
    return aicert.serving.connect(
        url,
        lease=lease,
        certificate=folder / "c.json",
        policy="local",
        root=folder / "root.pem",
        machine_root=folder / "platform.pem",
        at=AT,
    )


def test_a_lease_from_the_first_boot_to_the_one_that_is_refused(
    checkout: Checkout, desk_folder: Path, printed: Printed, beat: Callable[[], None]
) -> None:
    folder = desk_folder
    broker_process.write_tls(folder)
    agreed = pack(folder, "--heartbeat-seconds", "3600")
    token = folder / "token.txt"
    token.write_text(granted(folder, printed) + "\n")
    asked: list[Any] = []

    def during(url: str) -> None:
        with consumer(folder, url, agreed.lease) as endpoint:
            asked.append(json.loads(client(STREAMED % agreed.lease, endpoint.base_url)))
        assert main.main(["lease", "revoke", str(folder / "bot"), "--ledger",
                          str(folder / "ledger.db")]) == 0  # fmt: skip
        beat()

    with broker_process.running(folder, token.read_text().strip()) as desk:
        lines = f'broker = "https://127.0.0.1:{desk.port}"\nbroker-root = "leases/tls.pem"'
        project = leased(checkout, free_port(), lines)
        with pytest.raises(ConfigError, match="no token"):
            run(project, Watched(during))
        # A service manager ends the first boot.
        screen = Watched(lambda _: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(project, screen, token)
        assert "bot: ended: stop\n" in screen.written()
        screen = Watched(during)
        assert run(project, screen, token) == 0
        assert asked[0]["tokens"] == 3
        place = checkout.root / lease_state.SERVING / "bot"
        # The broker has everything: the heartbeats, a last receipt, and that the epoch was raised.
        assert not (place / lease_state.UNSENT).exists()
        assert not (place / "work").exists()
        words = [
            "receipts",
            str(place / lease_state.RECEIPTS),
            "--enrolment",
            str(place / lease_state.ENROLMENT),
        ]
        printed()
        assert main.main(["lease", *words, "--lease", str(folder / "bot"), "--policy", "local",
                          "--root", str(folder / "platform.pem")]) == 0  # fmt: skip
        text = printed()[0]
        assert ", 3 out, 0 refused, of 1 request\n" in text
        assert f"\nended     by order {orders.REVOKE}: the epoch is " in text
        # The same machine asks again: its token was kept, and the broker refuses.
        again = Watched(lambda _: None)
        with pytest.raises(RefusedHereError, match="revoked"):
            run(project, again)
        assert not power.memory_of(place).exists()


def test_a_grant_that_ended_and_the_one_after_it(
    checkout: Checkout, desk_folder: Path, printed: Printed
) -> None:
    """A machine that was off when its grant ended obeys at its next start, and enrols again."""
    folder = desk_folder
    broker_process.write_tls(folder)
    pack(folder, "--heartbeat-seconds", "3600")
    tokens = [folder / "first.txt", folder / "second.txt"]
    tokens[0].write_text(granted(folder, printed) + "\n")
    ledger = ["--ledger", str(folder / "ledger.db")]
    with broker_process.running(folder, tokens[0].read_text().strip()) as desk:
        lines = f'broker = "https://127.0.0.1:{desk.port}"\nbroker-root = "leases/tls.pem"'
        project = leased(checkout, free_port(), lines)

        def interrupted(token: Path) -> Watched:
            screen = Watched(lambda _: signal.raise_signal(signal.SIGINT))
            assert run(project, screen, token) == 0
            return screen

        assert "bot: ended: stop: as you asked\n" in interrupted(tokens[0]).written()
        words = ["lease", "revoke", str(folder / "bot"), "--borrower", "acme", *ledger]
        assert main.main(words) == 0
        with pytest.raises(ToolError, match="before it served: revoke: the custodian") as ended:
            run(project, Watched(lambda _: None))
        assert "./doit serve bot --token FILE" in (ended.value.hint or "")
        place = checkout.root / lease_state.SERVING / "bot"
        # The kill receipt arrived as well.
        assert not (place / lease_state.UNSENT).exists()
        printed()
        assert main.main(["lease", "status", *ledger]) == 0
        assert "\nstate     revoked, obeyed\n" in printed()[0]
        with pytest.raises(RefusedHereError, match="revoked") as refused:
            run(project, Watched(lambda _: None))
        assert "ask the custodian" in (refused.value.hint or "")
        tokens[1].write_text(granted(folder, printed) + "\n")
        interrupted(tokens[1])
        assert (place / lease_state.EARLIER / "1" / lease_state.TOKEN).exists()
        # The token that is kept is no other one.
        with lease_state.opened(checkout.root, "bot") as kept:
            assert not kept.has_another_token(tokens[1])
            assert kept.has_another_token(tokens[0])


def test_a_lease_without_a_broker_and_ctrl_c(
    checkout: Checkout, desk_folder: Path, printed: Printed
) -> None:
    folder = desk_folder
    agreed = pack(folder, "--offline")
    leased(checkout, free_port(), "")
    first = checkout.doit("serve", "bot")
    assert (first.returncode, "has no licence yet" in first.stderr) == (2, True), first.stderr
    assert "aicert lease issue" in first.stderr
    place = checkout.root / lease_state.SERVING / "bot"
    words = [
        "issue",
        str(place / lease_state.ENROLMENT),
        "-o",
        str(folder / "bot.issued"),
        "--offline",
    ]
    words += ["--budget", "100k", "--until", "1h", "--lease", str(folder / "bot")]
    words += ["--policy", "local", "--root", str(folder / "platform.pem")]
    assert main.main(["lease", *words]) == 0
    with checkout.start("serve", "bot") as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "serving at https://127.0.0.1:" in line:
                break
        url = lines[-1].partition("serving at ")[2].strip()
        with consumer(folder, url, agreed.lease) as endpoint:
            assert json.loads(client(STREAMED % agreed.lease, endpoint.base_url))["tokens"] == 3
        second = checkout.doit("serve", "bot")
        assert (second.returncode, "already serves lease" in second.stderr) == (2, True)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert (process.wait(), "ended: asked" in rest) == (0, True), rest
    assert checkout.processes() == []
    printed()
    words = ["receipts", str(place / lease_state.RECEIPTS), "--lease", str(folder / "bot")]
    words += ["--enrolment", str(place / lease_state.ENROLMENT)]
    words += ["--policy", "local", "--root", str(folder / "platform.pem")]
    assert main.main(["lease", *words]) == 0
    assert ", 3 out, 0 refused, of 1 request\n" in printed()[0]


def test_a_lease_without_a_bundle_says_how_to_pack_one(checkout: Checkout) -> None:
    lines = '\n[leases.own]\nmodel = "run:tiny-alpaca/model"\nmachine = "desk"\n'
    project = leased(checkout, free_port(), lines)
    with pytest.raises(AicertError) as caught:
        serve.serve(project, project.lease("own"), token=None, nonce="")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("aicert lease pack certificates/tiny-alpaca/")


def test_a_machine_that_cannot_start_says_why(checkout: Checkout, desk_folder: Path) -> None:
    pack(desk_folder, "--offline")
    header = desk_folder / "bot/header.json"
    header.write_bytes(header.read_bytes().replace(b'"lease"', b'"leash"'))
    project = leased(checkout, free_port(), "")
    with pytest.raises(ToolError) as caught:
        run(project, Watched(lambda _: None))
    assert "the machine ended: without a word\nerror: " in caught.value.message


def test_what_the_command_line_lacks_is_named(checkout: Checkout) -> None:
    done: subprocess.CompletedProcess[str] = checkout.doit("serve")
    assert done.returncode == 3
    assert "aicert.toml defines no lease" in done.stderr
    leased(checkout, free_port(), "")
    done = checkout.doit("serve", "bott")
    assert (done.returncode, "./doit serve bot" in done.stderr) == (3, True), done.stderr
