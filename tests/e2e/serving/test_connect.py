"""A certified model is leased, served and queried through `aicert connect`: one chain.

The machine is real (a software TPM, the real gateway), with a stub engine; tests that need the
engine itself are in test_serving_process.py. Clients are OpenAI's own, at the locked version.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import aicert.serving
from aicert.cli import connect as commands
from aicert.cli import main
from aicert.lease import courier
from aicert.lease.checks import RefusedError
from aicert.serving.endpoint import Endpoint
from enclave_runner.serving.lease_tpm import LeaseTpm
from rules.machines import swtpm
from rules.machines.ca import Ca
from tests.e2e.lease.lease_tpm import borrowers_tpm
from tests.e2e.lease.test_lease_story import pack
from tests.e2e.serving import stub_engine
from tests.e2e.serving.test_serving_machine import Courier, offline, scene
from tests.oracles import environment as oracles
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.serving import machines
from tests.unit.aicert.serving.test_endpoint import Client
from tests.unit.signing_keys import Printed

ROOT = Path(__file__).resolve().parents[3]
# A user's program, which knows nothing about leases.
PROGRAM = """
import json, openai
client = openai.OpenAI()
(model,) = client.models.list().data
messages = [{"role": "user", "content": "hello"}]
asked = dict(model=model.id, messages=messages, max_tokens=3)
whole = client.chat.completions.create(**asked)
stream = client.chat.completions.create(
    **asked, stream=True, stream_options={"include_usage": True}
)
parts = list(stream)
done = client.completions.create(model=model.id, prompt="x", max_tokens=2)
try:
    client.chat.completions.create(**asked, n=2)
except openai.BadRequestError as error:
    refused = error.code
print(json.dumps({
    "model": model.id, "whole": whole.choices[0].message.content,
    "tokens": whole.usage.completion_tokens,
    "parts": [part.choices[0].delta.content for part in parts if part.choices],
    "counted": parts[-1].usage.total_tokens, "done": done.choices[0].text, "refused": refused,
}))
"""
LATE = """
import openai
client = openai.OpenAI(max_retries=1)
try:
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "secret"}])
except openai.InternalServerError as error:
    print(error.status_code, error.code)
"""


def client(program: str, base_url: str) -> str:
    """Run a program with OpenAI's client, given the line to paste. Returns what it prints."""
    words = [str(oracles.python(oracles.SERVING, "serving")), "-I", "-c", program]
    environment = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "none", "PATH": os.defpath}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, ca: Ca) -> Path:
    (tmp_path / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    return lay_out(scene(), tmp_path)


@pytest.fixture
def served(folder: Path, ca: Ca) -> Iterator[Courier]:
    """Yield a machine that serves the model of the folder's certificate. Its port stays reserved
    after it has ended.
    """
    pack(folder, "--offline")
    with borrowers_tpm() as power, machines.kept_port() as port:
        with power.powered():
            swtpm._prepare(power.tcti, ca)
        with stub_engine.running(power.folder) as stub, power.on() as opened:
            with LeaseTpm(opened) as tpm:
                carried = offline(folder, tpm, stub, port=port)
                yield carried
                carried.ask(courier.STOP)


def words(served: Courier, **changes: str) -> list[str]:
    """Return the command line of a consumer who wants the model that is served."""
    given = {
        "lease": served.terms.lease, "certificate": str(served.folder / "c.json"),
        "policy": "local", "root": str(served.folder / "root.pem"), "at": AT,
        "machine-root": str(served.folder / "platform.pem"),
    } | changes  # fmt: skip
    options = (f"--{name}={value}" for name, value in given.items())
    return ["connect", f"https://127.0.0.1:{served.port}", *options]


def connected(served: Courier, during: Callable[[str], None], **changes: str) -> tuple[int, str]:
    """Run the command until Ctrl-C. `during` gets the text that it prints once it listens. Returns
    its exit code and all that it printed.
    """
    shown: list[str] = []

    def say(text: str) -> None:
        shown.append(text)
        during(text)
        # A terminal sends the signal like this.
        signal.raise_signal(signal.SIGINT)

    options = main._options(words(served, **changes))
    return options.run(options, say), "".join(shown)


def test_openais_own_client_works_through_it_unchanged(served: Courier, printed: Printed) -> None:
    given: dict[str, Any] = {}

    def ask(text: str) -> None:
        given.update(json.loads(client(PROGRAM, json.loads(text)["baseUrl"])))

    code, text = connected(served, ask, format="json")
    assert code == 0
    assert given == {
        "model": served.terms.lease, "whole": "one two three", "tokens": 3,
        "parts": ["one", " two", " three", None], "counted": 10, "done": "one two",
        "refused": "gateway.request",
    }  # fmt: skip
    assert json.loads(text)["tier"] == "software"
    assert printed()[1] == "\nclosed: the endpoint no longer listens\n"
    # The requests that were paid are those that were served.
    assert served.machine.usage.requests == 3


def test_what_was_verified_is_shown_once(served: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    close = Endpoint.close

    def closed(endpoint: Endpoint) -> None:
        close(endpoint)
        order.append("closed")

    monkeypatch.setattr(Endpoint, "close", closed)
    monkeypatch.setattr(commands, "complain", order.append)
    code, text = connected(served, lambda _: None)
    assert code == 0
    assert order == ["closed", "\nclosed: the endpoint no longer listens\n"]
    assert "\n  ok      serve.channel        bound to this TLS key and this connection" in text
    assert "\n  ok      serve.image          none: nothing measures a boot" in text
    assert "\nPASSED    (software: the operator could have forged this)\n" in text
    assert f"\nlease     {served.terms.lease}, terms {served.terms.digest}\n" in text
    assert "OPENAI_BASE_URL=http://127.0.0.1:" in text


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"lease": "0" * 32}, 1, "error: serve.lease: the machine serves lease "),
        ({"machine-root": "root.pem"}, 1, "error: serve.chain: "),
        ({"policy": "default"}, 1, ""),
        ({"lease": "x"}, 3, "error: a lease has 32 hexadecimal digits\n"),
        ({"port": "70000"}, 3, "error: a port is from 1 to 65535"),
    ],
)
def test_who_is_not_shown_what_he_wants_gets_no_endpoint(
    served: Courier, printed: Printed, changes: dict[str, str], code: int, message: str
) -> None:
    given = {
        key: str(served.folder / value) if value.endswith(".pem") else value
        for key, value in changes.items()
    }
    assert main.main(words(served, **given)) == code
    out, err = printed()
    assert message in err
    assert "OPENAI_BASE_URL" not in out
    # A certificate that the policy does not accept is shown as `verify` shows it.
    assert bool(message) or "FAILED  platform.tier" in out


def test_a_machine_that_ended_is_not_asked_any_more(served: Courier) -> None:
    """A machine that no longer serves gets no more requests. OpenAI's client receives the reason,
    and its retries do too.
    """
    with aicert.serving.connect(
        f"https://127.0.0.1:{served.port}", lease=served.terms.lease,
        certificate=served.folder / "c.json", policy="local", root=served.folder / "root.pem",
        at=AT, machine_root=served.folder / "platform.pem",
    ) as endpoint:  # fmt: skip
        assert endpoint.served.statement.model == served.terms.model
        with closing(Client(endpoint)) as before:
            assert before.ask("/v1/models", None, "GET")[0] == 200
        served.ask(courier.STOP)
        assert client(LATE, endpoint.base_url) == "502 endpoint\n"
        assert endpoint.error is None


def test_serve_boot_of_another_machine_at_its_address_ends_the_command(served: Courier) -> None:
    heard: list[bytes] = []

    def taken_over(text: str) -> None:
        served.ask(courier.STOP)
        with machines.saying(lambda data, _: heard.append(data), port=served.port):
            base_url = json.loads(text)["baseUrl"]
            assert client(LATE, base_url) == "502 serve.boot\n"

    options = main._options(words(served, format="json"))
    with pytest.raises(RefusedError, match=r"^serve\.boot: the machine has another TLS key"):
        options.run(options, taken_over)
    assert heard == []


def test_ctrl_c_of_a_process_ends_it_cleanly(served: Courier) -> None:
    command = [sys.executable, "-m", "aicert", *words(served)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            pasted = next(line for line in lines if "OPENAI_BASE_URL" in line)
            port = int(pasted.partition("127.0.0.1:")[2].partition("/")[0])
            assert port
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 0
    assert err == "\nclosed: the endpoint no longer listens\n"
