"""`transformers serve` under the guard answers with a signed model, and loads no other."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from rules.host import training_env
from tests.e2e.guard import guarded
from tests.e2e.guard.guarded import ROOT, Guarded
from tests.oracles import environment as oracles
from tests.unit.signing_keys import pair

pytestmark = pytest.mark.slow

RUNNING = re.compile(r"Uvicorn running on http://(127\.0\.0\.1:[0-9]+)")
# pip writes such a script.
PROGRAM = "#!{}\nimport sys\nfrom transformers.cli.transformers import main\nsys.exit(main())\n"


@dataclass(kw_only=True)
class Server:
    """A running server, and what it has written so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    address: str = ""

    def read(self, listening: threading.Event) -> None:
        """Read all that the server writes: a full pipe would block it."""
        assert self.process.stdout is not None
        try:
            with self.process.stdout as output:
                for line in output:
                    self.lines.append(line)
                    match = RUNNING.search(line)
                    if match:
                        self.address = match[1]
                        listening.set()
        finally:
            listening.set()

    def post(self, path: str, **body: object) -> tuple[int, str]:
        """Send a request. Returns the status and the text of the answer."""
        connection = http.client.HTTPConnection(self.address, timeout=600)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    serving = oracles.python(oracles.SERVING, "serving").parents[1]
    folder = tmp_path_factory.mktemp("serving")
    installation = guarded.make(folder, training_env.ensure(ROOT), serving)
    keys = pair(folder, "k")
    (folder / "guard.toml").write_text('[[signer]]\nkey = "k.pub"\n')
    signed = guarded.write(folder / "signed", guarded.tiny_model())
    guarded.copy(signed, folder / "unsigned")
    guarded.sign(signed, keys.key)
    changed = guarded.copy(signed, folder / "changed")
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    program = folder / "transformers"
    program.write_text(PROGRAM.format(installation.python))
    program.chmod(0o755)
    return installation


def command(environment: Guarded, *words: str) -> list[str]:
    return [
        str(environment.python), "-m", "aicert", "guard", "--policy", "guard.toml", "--",
        str(environment.folder / "transformers"), "serve", *words,
        "--host", "127.0.0.1", "--port", "0", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def server(environment: Guarded) -> Iterator[Server]:
    process = subprocess.Popen(
        command(environment),
        cwd=environment.folder,
        env=environment.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    started = Server(process=process)
    listening = threading.Event()
    reader = threading.Thread(target=started.read, args=(listening,))
    reader.start()
    try:
        listening.wait()
        assert started.address, "".join(started.lines)
        yield started
    finally:
        process.kill()
        process.wait()
        reader.join()


def test_a_signed_model_answers(server: Server) -> None:
    status, text = server.post("/v1/completions", model="signed", prompt="a", max_tokens=2)
    assert status == 200, text + "".join(server.lines)
    assert json.loads(text)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unsigned", "the model has no signature or certificate that"),
        ("changed", "files.match: the files are not the signed ones"),
    ],
)
def test_another_model_is_not_loaded(server: Server, name: str, message: str) -> None:
    _, text = server.post("/load_model", model=name)
    assert message in text, "".join(server.lines)
    assert '"ready"' not in text
    status, _ = server.post("/v1/completions", model=name, prompt="a", max_tokens=2)
    assert status == 500


def test_a_server_of_a_changed_model_does_not_start(environment: Guarded) -> None:
    ended = environment.run(*command(environment, "changed"))
    assert ended.returncode == 1, ended.stderr
    assert "files.match: the files are not the signed ones" in ended.stderr
    assert not RUNNING.search(ended.stderr)
