"""Measure what serving a leased model costs in addition to its engine, and a lease on a software
TPM.

The engine is a stand-in with a fixed number of tokens a second. So this measures the gateway, the
counting, TLS and the TPM, not a model. The same answers are also read from the engine directly. The
client is a process of its own, so that its CPU time does not count as the machine's.

`python -m tests.e2e.serving.serving_costs` prints numbers as JSON, for `./doit bench serving`.
"""

import contextlib
import http.client
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from aicert.errors import ToolError

TOKENS: Final = 300
QUICK_TOKENS: Final = 4000
TOKEN_S: Final = 0.010
TRIES: Final = 5
LOAD_BYTES: Final = 512 << 20
PROMPT: Final = {"messages": [{"role": "user", "content": "hello"}], "stream": True}


def median_ms(times: int, once: Callable[[], object]) -> float:
    """Return the median wall time of a call, in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        once()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


class _Paced:
    """An engine in this process, which sends prepared lines `pause` seconds apart."""

    def __init__(self, tokens: int, pause: float) -> None:
        from enclave_runner.serving.requests import CHAT
        from tests.e2e.serving.stub_engine import event

        usage = {"prompt_tokens": 7, "completion_tokens": tokens}
        self._pause = pause
        self._token = event(" word", route=CHAT)
        self._last = [event(reason="stop", usage=usage, route=CHAT), b"data: [DONE]\n\n"]
        self._tokens = tokens

    @contextmanager
    def ask(self, route: str, body: bytes) -> Iterator[Iterator[bytes]]:
        """Yield the same answer to every request."""
        del route, body
        yield self.lines()

    def lines(self) -> Iterator[bytes]:
        """Yield all lines of the answer."""
        for _ in range(self._tokens):
            if self._pause:
                time.sleep(self._pause)
            yield self._token
        yield from self._last


# The client's process: it streams one answer that counts, after one that does not.
_CLIENT: Final = """
import sys, time
from tests.e2e.serving.serving_client import CHAT, Client
import json
with Client(int(sys.argv[1])) as client:
    began = time.perf_counter()
    answer = client.ask(CHAT, json.loads(sys.argv[2]))
    count = answer.read().count(b'"content":')
    print(json.dumps({"tokens": count, "seconds": time.perf_counter() - began}))
"""


def _streamed(tokens: int, pause: float) -> tuple[float, float]:
    """Return the tokens a second that a client gets, and the milliseconds of CPU per token in this
    process.
    """
    from enclave_runner.serving import tls
    from enclave_runner.serving.gateway import Gateway
    from enclave_runner.serving.listener import Listener
    from enclave_runner.serving.meter import Meter
    from enclave_runner.serving.signer import Signer
    from tests.vectors.leases import agreed

    engine: Any = _Paced(tokens, pause)
    identity, terms = tls.make_identity(), agreed(max_output_tokens=tokens)
    gateway = Gateway(
        terms=terms,
        engine=engine,
        engine_model="m",
        template_tokens=64,
        meter=Meter(lambda: None, tick_tokens=1000, budget=1 << 30),
        attest=lambda *_: b"",
        signer=Signer(identity, terms),
        distrust=lambda _: None,
    )
    listener = Listener(("127.0.0.1", 0), tls.server_context(identity), gateway.serve)
    listener.start()
    asked = json.dumps(PROMPT | {"max_tokens": tokens})
    try:
        before = time.process_time()
        done = subprocess.run(
            [sys.executable, "-c", _CLIENT, str(listener.port), asked],
            capture_output=True,
            text=True,
        )
        spent = time.process_time() - before
    finally:
        listener.stop()
    if done.returncode:
        raise ToolError(f"cannot be measured: {done.stderr[-500:]}")
    seen = json.loads(done.stdout)
    if seen["tokens"] != tokens:
        raise ToolError(f"cannot be measured: {seen['tokens']} tokens of {tokens} arrived")
    return tokens / seen["seconds"], 1000 * spent / tokens


def metering() -> dict[str, float]:
    """Return the tokens a second of an engine that takes 10 ms for each, alone and behind the
    gateway, and the gateway's CPU time per token. The best of several tries counts, because other
    work on this computer only slows them.
    """
    bare, served, cpu = [], [], []
    for _ in range(TRIES):
        began = time.perf_counter()
        for _ in _Paced(TOKENS, TOKEN_S).lines():
            pass
        bare.append(TOKENS / (time.perf_counter() - began))
        served.append(_streamed(TOKENS, TOKEN_S)[0])
        cpu.append(_streamed(QUICK_TOKENS, 0)[1])
    return {
        "bare": max(bare),
        "served": max(served),
        "cpu": min(cpu),
    }


def encrypted_load(folder: Path) -> float:
    """Return how many GB a second of CPU time are decrypted, hashed and written to a memory file
    system at `folder`.
    """
    import hashlib

    from aicert.lease import bundle
    from aicert.lease.bundle import ContentKey, PackedFile
    from enclave_runner.serving import load

    block = os.urandom(bundle.CHUNK)
    count = LOAD_BYTES // bundle.CHUNK
    key = ContentKey(bytes(32), bytes(32), b"header")
    hashed = hashlib.sha256()
    for _ in range(count):
        hashed.update(block)
    file = PackedFile(path="w", size=LOAD_BYTES, sha256=hashed.hexdigest())
    sealed, plain = folder / "0", folder / "plain"
    with sealed.open("wb") as out:
        for chunk in bundle.encrypted(key, 0, (block for _ in range(count))):
            out.write(chunk)
    taken = []
    for _ in range(TRIES):
        began = time.process_time()
        load.decrypt_file(folder, key, 0, file, plain)
        taken.append(time.process_time() - began)
        plain.unlink()
    sealed.unlink()
    return LOAD_BYTES / min(taken) / 1e9


def as_in_the_image() -> float:
    """Measure the same in a memory file system with the mount options of the image's init."""
    init = Path("image/machine/init.c").read_text(encoding="ascii")
    (options,) = re.findall(r'#define SCRATCH "(.*huge.*)"', init)
    with tempfile.TemporaryDirectory() as name:
        mount = f"mount -t tmpfs -o {options} memory {name}"
        command = f"{mount} && exec {sys.executable} -m tests.e2e.serving.serving_costs {name}"
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", command],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return float(done.stdout)


def lease(folder: Path) -> dict[str, float]:
    """Return milliseconds on a software TPM: for a tick, a receipt, opening, and a connection that
    is judged; and from the order that revokes to a stream's last byte, and to the end of the boot.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from aicert.lease import courier, orders
    from enclave_runner.serving.lease_tpm import LeaseTpm
    from rules.machines import swtpm
    from rules.machines.ca import local_ca
    from tests.e2e.lease.lease_tpm import borrowers_tpm
    from tests.e2e.lease.test_lease_story import pack
    from tests.e2e.serving import stub_engine, test_serving_machine
    from tests.e2e.serving.test_serving_tpm import PUBLIC, issued
    from tests.unit.aicert.cli.test_main import lay_out

    measured: dict[str, float] = {}
    (folder / "ca").mkdir()
    ca = local_ca(folder / "ca", "local")
    (folder / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    lay_out(test_serving_machine.scene(), folder)
    with ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        power = stack.enter_context(borrowers_tpm())
        with power.powered():
            swtpm._prepare(power.tcti, ca)
        opened = stack.enter_context(power.on())
        tpm = stack.enter_context(LeaseTpm(opened))
        wrapped, given = issued(tpm)
        measured["open"] = median_ms(9, lambda: tpm.open(wrapped, given, PUBLIC))
        measured["receipt"] = median_ms(25, lambda: tpm.receipt(b"body"))
        measured["tick"] = median_ms(50, tpm.tick)
        agreed = pack(folder)
        stub = stack.enter_context(stub_engine.running(power.folder))
        stub.say = _endless
        carried = test_serving_machine.Courier(folder, tpm, stub)
        epoch = carried.enrol_and_issue().bounds.epoch
        if carried.grant(epoch).kind != courier.SERVING:
            raise ToolError("cannot be measured: the machine does not serve")
        measured["judged"] = median_ms(15, lambda: _judged(folder, carried.port, agreed.lease))
        carried.ask(courier.HEARTBEAT, b"\x0d" * 32)
        order = carried.ordered(orders.REVOKE, epoch=epoch)
        measured |= _revoked(carried, order)
    return measured


def _endless(_: dict[str, Any]) -> Iterator[bytes]:
    from enclave_runner.serving.requests import CHAT
    from tests.e2e.serving.stub_engine import event

    while True:
        time.sleep(0.002)
        yield event(" word", route=CHAT)


def _judged(folder: Path, port: int, lease_id: str) -> None:
    from aicert.serving.connections import TargetMachine, open_judged
    from aicert.trust.built_in import built_in, with_root
    from tests.e2e.serving.test_serving_machine import certified

    policy = with_root(built_in("local"), (folder / "platform.pem").read_bytes(), "platform.pem")
    machine = TargetMachine(
        host="127.0.0.1", port=port, lease=lease_id, certified=certified(folder), policy=policy
    )
    open_judged(machine).close()


def _revoked(carried: Any, order: bytes) -> dict[str, float]:
    """Return the milliseconds from the order until the client of a stream receives nothing more."""
    from aicert.lease import courier
    from tests.e2e.serving.serving_client import CHAT, Client

    begun, last = threading.Event(), [0.0]

    def read() -> None:
        with Client(carried.port) as client:
            answer = client.ask(CHAT, PROMPT | {"max_tokens": 2000})
            try:
                while answer.read1(1 << 16):
                    last[0] = time.perf_counter()
                    begun.set()
            except (OSError, http.client.HTTPException):
                # The machine has ended, and does not close its connections politely.
                return

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait()
    ordered = time.perf_counter()
    carried.ask(courier.ORDER, order)
    thread.join()
    return {"revoked": 1000 * (last[0] - ordered), "ended": 1000 * (time.perf_counter() - ordered)}


def measure() -> dict[str, float]:
    """Measure everything. Return the numbers by name."""
    measured = metering()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        measured["load"] = encrypted_load(Path(name))
    measured["imageLoad"] = as_in_the_image()
    with tempfile.TemporaryDirectory(prefix="aicert-") as name:
        measured |= lease(Path(name))
    return measured


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(encrypted_load(Path(sys.argv[1])))
    else:
        print(json.dumps(measure()))
