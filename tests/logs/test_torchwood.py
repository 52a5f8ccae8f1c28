"""torchwood, as Debian unstable packages it: each side verifies the other's proofs.

Its witness cosigns our log as long as that only grows. `./doit test -m logs tests/logs`: not in CI,
as unstable changes every day.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from aicert.audits.merkle import root_of
from aicert.errors import EvidenceError, ToolError
from aicert.log import check, witness_client
from aicert.log.errors import BrokenLogError
from aicert.sources.log_server import add_checkpoint
from aicert.tlog import proofs
from aicert.tlog.checkpoints import cosigned_at, open_checkpoint
from aicert.tlog.notes import Note, VerifierKey
from tests.oracles import environment
from tests.unit.aicert.log.logs import Bench, entry

pytestmark = pytest.mark.logs
NAME = "witness.example/litewitness"


@pytest.fixture(scope="session")
def programs() -> Path:
    return environment.torchwood()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.append(*(entry(f"r{number}") for number in range(300)))
    return bench


def spicy(programs: Path, bench: Bench, data: bytes, proof: bytes, place: Path) -> bool:
    """Return whether torchwood verifies; it expects a proof without the format's line."""
    (place / "entry").write_bytes(data)
    (place / "entry.spicy").write_bytes(proof.removeprefix(proofs.FORM.encode() + b"\n"))
    words = [str(programs / "spicy-torchwood"), "-verify", str(bench.key), str(place / "entry")]
    return subprocess.run(words, capture_output=True).returncode == 0


def ours(bench: Bench, data: bytes, proof: bytes) -> bool:
    try:
        read = proofs.parse(proof)
        checkpoint = open_checkpoint(read.checkpoint, bench.key)
        return root_of(data, read.index, checkpoint.size, read.path) == checkpoint.root
    except EvidenceError:
        return False


def test_it_verifies_our_proofs_and_refuses_what_we_refuse(
    programs: Path, bench: Bench, tmp_path: Path
) -> None:
    for grown in (0, 1, 211):
        if grown:
            bench.grow(grown)
        for index in (0, 17, 255, 256, 299, len(bench.entries) - 1):
            data = bench.entries[index]
            _, proof = check.prove(bench.folder, bench.key, data)
            assert ours(bench, data, proof)
            assert spicy(programs, bench, data, proof, tmp_path)
    data = bench.entries[17]
    _, proof = check.prove(bench.folder, bench.key, data)
    lines = proof.split(b"\n")
    forged = {
        "another index": proof.replace(b"index 17", b"index 18"),
        "an index outside": proof.replace(b"index 17", b"index 9999"),
        "a shorter path": b"\n".join(lines[:2] + lines[3:]),
        "a longer path": b"\n".join([*lines[:2], lines[2], *lines[2:]]),
        "another size": proof.replace(b"\n512\n", b"\n511\n"),
        "another origin": proof.replace(b"\nlog.example/models\n", b"\nlog.example/model\n"),
        "no signature": proof.rpartition("\u2014".encode())[0],
    }
    for name, text in forged.items():
        assert text != proof, name
        assert not ours(bench, data, text), name
        assert not spicy(programs, bench, data, text, tmp_path), name
    assert not spicy(programs, bench, bench.entries[18], proof, tmp_path)


def test_we_verify_its_proofs(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    program = programs / "spicy-torchwood"
    key_file, assets = tmp_path / "k", tmp_path / "assets"
    begun = subprocess.run(
        [program, "-init", "spicy.example/log", "-key", key_file, "-assets", assets],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (text,) = re.findall(r"Public key: (\S+)", begun.stdout + begun.stderr)
    key = VerifierKey.parse(text)
    files = [tmp_path / f"f{number}" for number in range(5)]
    for file in files:
        file.write_text(file.name)
    words = [*map(str, (program, "-key", key_file, "-assets", assets)), *map(str, files)]
    subprocess.run(words, capture_output=True, check=True)
    for index, file in enumerate(files):
        data = file.with_name(f"{file.name}.spicy").read_bytes()
        proof = proofs.parse(proofs.FORM.encode() + b"\n" + data)
        checkpoint = open_checkpoint(proof.checkpoint, key)
        root = root_of(file.read_bytes(), proof.index, checkpoint.size, proof.path)
        assert (proof.index, checkpoint.size, root) == (index, 5, checkpoint.root)


def ask(bench: Bench, witness: "Witness") -> witness_client.CosignedCheckpoint:
    """Ask for a cosignature as `aicert log ask` does."""
    post = partial(add_checkpoint, witness.url)
    return witness_client.ask(bench.folder, bench.key, witness.key, post)


class Witness:
    """A litewitness on this computer, with its key in an ssh-agent."""

    def __init__(self, url: str, key: VerifierKey) -> None:
        self.url, self.key = url, key


@pytest.fixture
def litewitness(programs: Path, bench: Bench, tmp_path: Path) -> Iterator[Witness]:
    key, agent, database = tmp_path / "id", tmp_path / "agent", tmp_path / "w.db"
    if shutil.which("ssh-agent") is None:
        pytest.skip("LITEWITNESS WAS NOT RUN: there is no ssh-agent")
    generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(generate, check=True, capture_output=True)
    with contextlib.ExitStack() as stack:

        def started(*words: object) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                list(map(str, words)), text=True, stderr=subprocess.STDOUT, stdout=subprocess.PIPE
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            stack.enter_context(process.stdout)  # type: ignore[arg-type]
            return process

        daemon = started("ssh-agent", "-D", "-a", agent)
        assert daemon.stdout is not None
        daemon.stdout.readline()
        variables = os.environ | {"SSH_AUTH_SOCK": str(agent)}
        subprocess.run(["ssh-add", "-q", key], env=variables, check=True, capture_output=True)
        public = subprocess.run(
            ["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True
        )
        control = [str(programs / "witnessctl")]
        more = ["-db", str(database), "-origin", bench.key.name]
        subprocess.run([*control, "add-log", *more], check=True, capture_output=True)
        words = [*control, "add-key", *more, "-key", str(bench.key)]
        subprocess.run(words, check=True, capture_output=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = started(
            programs / "litewitness", "-db", database, "-name", NAME, "-ssh-agent", agent,
            "-key", public.stdout.split()[1], "-listen", f"127.0.0.1:{port}",
        )  # fmt: skip
        assert process.stdout is not None
        text, heard = "", False
        while not (heard and "vkey" in text):
            line = process.stdout.readline()
            assert line, text
            text += line
            heard = heard or "listening" in text.lower()
        (vkey,) = re.findall(r"vkey[=:]\s*\"?([^\s\"]+)", text)
        yield Witness(f"http://127.0.0.1:{port}", VerifierKey.parse(vkey))


def test_its_witness_cosigns_our_log_while_it_grows(
    bench: Bench, litewitness: Witness, tmp_path: Path
) -> None:
    for grown in (0, 212, 1):
        if grown:
            bench.grow(grown)
        assert ask(bench, litewitness).checkpoint.size == len(bench.entries)
        cosigned = Note.parse(bench.part("checkpoint").read_bytes())
        assert len(cosigned_at(cosigned, litewitness.key)) == 1
    _, proof = check.prove(bench.folder, bench.key, bench.entries[5])
    assert NAME.encode() in proof
    # Another tree by the same key, and an older one.
    note = bench.part("checkpoint").read_bytes()
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    for path in (other.key_file, other.key_file.with_name("log.key.last")):
        path.unlink()
    for name in ("checkpoint", "log.vkey"):
        other.part(name).unlink()
    shutil.copy(bench.key_file, other.key_file)
    from aicert.log import writer

    writer.start(other.folder, bench.key.name, other.key_file)
    other.append(*(b"forked %d" % number for number in range(600)))
    other.key = bench.key
    with pytest.raises(BrokenLogError, match="the log has forked"):
        ask(other, litewitness)
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    with pytest.raises(ToolError, match="does not know a log"):
        ask(Bench(unknown, "log.example/other"), litewitness)
    assert bench.part("checkpoint").read_bytes() == note
