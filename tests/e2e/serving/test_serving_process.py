"""`python -m enclave_runner.serving` with `transformers serve`: a certified model answers.

There is one process and one boot, with real weights, for all tests that need the engine itself.
"""

import contextlib
import json
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import aicert.serving
from aicert.formats import certificate as certificates
from aicert.lease import answer_receipts, courier, receipts, terms
from aicert.lease.courier import Message
from aicert.leasing import client_receipts
from rules.host import training_env
from rules.machines import swtpm
from rules.machines.ca import local_ca
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene
from tests.e2e.guard import guarded
from tests.e2e.guard.guarded import ROOT
from tests.e2e.lease.lease_tpm import borrowers_tpm
from tests.e2e.lease.test_lease_story import NONCE, issue, pack
from tests.e2e.serving.serving_client import CHAT, MESSAGES, Client
from tests.e2e.serving.test_connect import client as openai_client
from tests.e2e.serving.test_serving_machine import appraised
from tests.oracles import environment as oracles
from tests.unit.aicert.cli.test_main import AT

pytestmark = pytest.mark.slow

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
# A busy computer takes minutes to import the engine's libraries.
PATIENCE = 1800.0


@dataclass
class Process:
    """A running machine and its messages. `folder` is on a disk, `memory` is a folder in memory."""

    folder: Path
    memory: Path
    process: "subprocess.Popen[bytes]"
    messages: "queue.Queue[Message]" = field(default_factory=queue.Queue)
    lines: list[Message] = field(default_factory=list)

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.messages.put(courier.parse(line, courier.TELLS))

    def send(self, kind: str, data: bytes = b"") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(courier.emit(Message(kind=kind, data=data)))
        self.process.stdin.flush()

    def wait_for(self, kind: str) -> Message:
        """Return the next message of this kind; a refusal before it is a failure."""
        while True:
            message = self.messages.get(timeout=PATIENCE)
            self.lines.append(message)
            assert message.kind in (kind, courier.STATE, courier.RECEIPT), message
            if message.kind == kind:
                return message

    @property
    def port(self) -> int:
        return next(line for line in self.lines if line.kind == courier.SERVING).number["port"]


def lay_out(folder: Path) -> None:
    """Write a model that has a chat template, and its certificate."""
    files = guarded.tiny_model()
    settings = json.loads(files["tokenizer_config.json"])
    files["tokenizer_config.json"] = json.dumps(settings | {"chat_template": TEMPLATE}).encode()
    scene = Scene().edit("outputs", lambda _: {"model": files})
    (folder / "c.json").write_bytes(scene.get("file"))
    (folder / "root.pem").write_bytes(ca_forge.pem(scene.get("root")))
    guarded.write(folder / "model", files)
    assert certificates.parse(scene.get("file"))


def command(folder: Path, memory: Path, tcti: str) -> list[str]:
    serving = oracles.python(oracles.SERVING, "serving").parents[1]
    packages = next(serving.glob("lib/python3*/site-packages"))
    words = ["-m", "enclave_runner.serving", "--tcti", tcti, "--bundle", str(folder / "bot")]
    words += ["--memory", str(memory / "weights"), "--copies", str(memory / "copies")]
    words += ["--scratch", str(memory / "scratch"), "--log", str(memory / "log")]
    words += ["--environment", str(training_env.ensure(ROOT)), "--packages", str(packages)]
    return [sys.executable, *words, "--threads", "1"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("serving")
    ca = local_ca(tmp_path_factory.mktemp("checkout"), "local")
    (folder / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    lay_out(folder)
    pack(folder, "--offline")
    with ExitStack() as stack:
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        power = stack.enter_context(borrowers_tpm())
        stack.enter_context(power.powered())
        swtpm._prepare(power.tcti, ca)
        process = stack.enter_context(
            subprocess.Popen(
                command(folder, memory, power.tcti),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        stack.callback(process.kill)
        running = Process(folder, memory, process)
        listening = threading.Thread(target=running.listen)
        listening.start()
        stack.callback(listening.join)
        stack.callback(process.kill)
        opened(running)
        yield running
        process.terminate()
        assert running.wait_for(courier.ENDED).data == b"asked"
        assert process.wait() == 0
        assert list((memory / "weights").iterdir()) == []
        assert list((memory / "copies").iterdir()) == []
        shutil.rmtree(folder / "bot")


def opened(running: Process) -> None:
    running.wait_for(courier.READY)
    running.send(courier.ENROL, NONCE)
    shown = running.wait_for(courier.ENROLMENT)
    (running.folder / "enrolment.json").write_bytes(shown.data)
    assert issue(running.folder, "--offline", "--budget", "100k") == 0
    running.send(courier.BLOB, (running.folder / "issued/blob").read_bytes())
    running.send(courier.LICENCE, (running.folder / "issued/licence").read_bytes())
    running.wait_for(courier.SERVING)


def test_a_machine_that_ends_without_a_lease_leaves_no_engine(machine: Process) -> None:
    with ExitStack() as stack:
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        power = stack.enter_context(borrowers_tpm())
        stack.enter_context(power.powered())
        words = command(machine.folder, memory, power.tcti)
        process = stack.enter_context(
            subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        ready = courier.parse(process.stdout.readline(), courier.TELLS)
        assert ready.kind == courier.READY
        # The engine has been started, and waits.
        assert [words for words in commands_with(str(memory)) if "engine_process" in words]
        process.terminate()
        assert process.wait() == 0
        assert commands_with(str(memory)) == []


def commands_with(text: str) -> list[str]:
    """Return the command lines of running processes that contain `text`."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [words for words in commands if text in words]


def test_a_certified_model_answers_who_judged_the_machine(machine: Process) -> None:
    with Client(machine.port) as client:
        assert appraised(client, machine.folder).tier == "software"
        first = client.chat(temperature=0, max_tokens=5).document
        again = client.chat(temperature=0, max_tokens=5).document
        assert first["choices"] == again["choices"]
        usage = first["usage"]
        assert 1 <= usage["completion_tokens"] <= 5
        assert usage["prompt_tokens"] >= 5
        events = client.chat(
            temperature=0, max_tokens=5, stream=True, stream_options={"include_usage": True}
        ).events
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
        assert text == first["choices"][0]["message"]["content"]
        assert events[-1]["usage"] == usage
        done: Any = client.ask("/v1/completions", {"prompt": "Numbers", "max_tokens": 4}).document
        assert done["usage"]["completion_tokens"] <= 4


def test_openais_client_streams_from_it_through_aicert_connect(machine: Process) -> None:
    """Test the whole chain with the engine itself: certified, packed, served, judged, queried."""
    lease = terms.parse((machine.folder / "bot/terms.toml").read_bytes()).lease
    with aicert.serving.connect(
        f"https://127.0.0.1:{machine.port}", lease=lease, policy="local", at=AT,
        certificate=machine.folder / "c.json", root=machine.folder / "root.pem",
        machine_root=machine.folder / "platform.pem", receipts=machine.folder / "answers",
    ) as endpoint:  # fmt: skip
        answer = json.loads(openai_client(OPENAI, endpoint.base_url))
    assert answer["model"] == lease
    assert answer["whole"] == answer["streamed"]
    assert answer["tokens"] == answer["counted"]
    held = [
        answer_receipts.verify(token).receipt
        for token in client_receipts.parse_lines((machine.folder / "answers").read_bytes())
    ]
    assert [one.tokens_in + one.tokens_out for one in held] == [answer["tokens"]] * 2


OPENAI = """
import json, openai
client = openai.OpenAI(timeout=1800, max_retries=0)
(model,) = client.models.list().data
asked = dict(model=model.id, messages=[{"role": "user", "content": "hello"}], max_tokens=5,
             temperature=0)
whole = client.chat.completions.create(**asked)
parts = list(client.chat.completions.create(
    **asked, stream=True, stream_options={"include_usage": True}
))
text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
print(json.dumps({"model": model.id, "whole": whole.choices[0].message.content, "streamed": text,
                  "tokens": whole.usage.total_tokens, "counted": parts[-1].usage.total_tokens}))
"""


def test_what_the_engine_would_do_for_anybody_is_not_reached(machine: Process) -> None:
    before = counted(machine)
    for target in ("/load_model", "/reset", "/v1/responses", "/v1/models/x", "//v1/models"):
        with Client(machine.port) as client:
            answer = client.ask(target, {"model": "/etc"})
            assert (answer.status, answer.document["error"]["code"]) == (404, "gateway.route")
            assert client.is_closed()
    with Client(machine.port) as client:
        assert client.ask(CHAT, {"messages": [], "logprobs": True}).status == 400
    assert counted(machine) == before
    assert b"load_model" not in (machine.memory / "log").read_bytes()


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"
HELLO = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":2}'
# Requests that two readers understand differently. Each is the last on its connection, and hides
# another request.
SMUGGLED = [
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(HELLO),
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HELLO),
    b"Content-Length: +%d\r\n\r\n" % len(HELLO),
    b"Content-Length: 0x10\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 99999999999999999999\r\n\r\n",
    b"Content-Length: %d\n\n" % len(HELLO),
    b"X: a\r\n b\r\nContent-Length: %d\r\n\r\n" % len(HELLO),
    b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(HELLO),
    b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(HELLO),
    b"Host: other\r\nContent-Length: %d\r\n\r\n" % len(HELLO),
]
NUMBERS: tuple[Any, ...] = (10**9, -1, 0, 2**63, 1.5, 1e308, True, "2", [])
HOSTILE: list[dict[str, Any]] = [
    *({"max_tokens": value} for value in NUMBERS),
    *({"n": value} for value in (128, 0, -1, 10**9, "1")),
    *({"best_of": value} for value in (128, -1)),
    *({"temperature": value} for value in (-1, 3, 1e308, "0")),
    *({"seed": value} for value in (-1, 2**64)),
    *({"stop": value} for value in (["x"] * 17, [""], 7, "x" * 257)),
    *({name: True} for name in ("logprobs", "echo", "tools", "generation_config", "adapter")),
    {"logit_bias": {"1": 100}}, {"top_logprobs": 20}, {"lora": "x"}, {"model": "/etc/passwd"},
    {"messages": []}, {"messages": [{"role": "tool", "content": "x"}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///"}]}]},
    {"messages": [{"role": "user", "content": "x"}] * 1025},
    # The model reads 512 tokens.
    {"messages": [{"role": "user", "content": "x" * 8193}]},
]  # fmt: skip


ALLOWED: list[dict[str, Any]] = [
    {"max_tokens": 1}, {"messages": [{"role": "user", "content": ""}]},
    {"messages": [{"role": "user", "content": "\0 <s></s><|im_end|>" * 200}]},
    {"messages": [{"role": "assistant", "content": "x"}] * 256},
    {"stop": ["a" * 128, "\n" * 128]}, {"stop": ["ab"] * 16}, {"temperature": 5e-324},
    {"temperature": 2, "top_p": 0}, {"temperature": 2, "top_p": 1e-300}, {"presence_penalty": -2},
    {"frequency_penalty": -0.99}, {"frequency_penalty": 2}, {"seed": (1 << 32) - 1},
]  # fmt: skip


def test_gateway_request_of_any_abuse_costs_and_harms_nothing(machine: Process) -> None:
    """gateway.request, with the engine itself behind it: hostile requests are refused and count
    nothing.
    """
    before = counted(machine)
    for head in SMUGGLED:
        with Client(machine.port) as client:
            answer = client.send(POST + head + HELLO + POST + b"Content-Length: 0\r\n\r\n")
            assert answer.status in (400, 411, 413, 415), head
            answer.read()
            # The hidden request is not answered.
            assert client.is_closed()
    for more in HOSTILE:
        with Client(machine.port) as client:
            asked = {"messages": MESSAGES, "max_tokens": 1, **more}
            assert client.ask(CHAT, asked).status in (400, 404), more
    with Client(machine.port) as client:
        assert client.ask("/v1/completions", {"prompt": "", "max_tokens": 1}).status == 400
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (deep, b"{" * 50_000, b'{"max_tokens":NaN}', b'{"a":1,"a":2}', b"\xff", b"null"):
        with Client(machine.port) as client:
            assert (
                client.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body).status == 400
            )
    assert counted(machine) == before
    # What is just within the limits is answered, at once.
    for more in ALLOWED:
        with Client(machine.port) as client:
            assert client.chat(**more).document["usage"]["completion_tokens"] >= 1, more


def test_a_thousand_connections_leave_room_for_who_waits(machine: Process) -> None:
    """Half-open connections, and a client that sends a byte now and then, are all ended by the
    gateway's clock; clients that are served in the meantime notice nothing.
    """
    with Client(machine.port) as client, ExitStack() as stack:
        assert client.chat(max_tokens=1).document
        flood = [
            stack.enter_context(socket.create_connection(("127.0.0.1", machine.port)))
            for _ in range(1000)
        ]
        assert client.chat(max_tokens=1).document
        # Each connection is rejected at once, or when its time for a handshake is over.
        assert [one.recv(1) for one in flood] == [b""] * 1000
        assert client.chat(max_tokens=1).document
    with Client(machine.port) as client:
        assert client.chat(max_tokens=1).document


def counted(machine: Process) -> receipts.Usage:
    """Return what the machine says that it has served so far."""
    machine.send(courier.HEARTBEAT, NONCE)
    body = receipts.parse(machine.wait_for(courier.RECEIPT).data).body
    return receipts.parse_heartbeat(body).usage


def test_weights_are_in_memory_and_nowhere_else(machine: Process) -> None:
    """A canary is found where weights must be, so not finding it elsewhere proves something."""
    weights = (machine.folder / "model/model.safetensors").read_bytes()
    canary = weights[len(weights) // 2 :][:64]
    assert len(set(canary)) > 8
    own = machine.folder / "model"
    places = [path for path in machine.folder.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(machine.folder / "bot/data") for path in places)
    for path in places:
        assert path.is_relative_to(own) or canary not in path.read_bytes(), path
    (held,) = machine.memory.glob("weights/model.safetensors")
    assert canary in held.read_bytes()
    limits = Path(f"/proc/{machine.process.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)


def test_receipts_say_what_was_served(machine: Process) -> None:
    with Client(machine.port) as client:
        served = client.chat(max_tokens=2).document["usage"]["completion_tokens"]
    usage = counted(machine)
    assert usage.tokens_out >= served
    assert usage.tokens_in + usage.tokens_out <= 1000 * usage.ticks
