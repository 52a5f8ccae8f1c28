"""A logged run: its nonce from the witnesses' time, its proof, and servers that are down."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.checks.quote import answers
from aicert.appraisal.evidence.accepted import NoteSigner
from aicert.cli.main import main
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from aicert.log import writer
from aicert.log.errors import BrokenLogError
from aicert.tlog.checkpoints import open_checkpoint
from aicert.tlog.notes import VerifierKey
from rules.project import config
from rules.project.config import Run
from rules.runs import logs, time_stamps
from tests.adversarial.forger import Scene
from tests.unit.aicert.log.logs import ORIGIN, Bench
from tests.unit.servers import Site, nobody, site
from tests.witness_server import WitnessServer

TOML = """
[runs.tiny]
config = "path:tiny.yml"
machine = "local"
outputs = ["model"]
inputs = {}
log = true
[machines.local]
driver = "local"
[log]
folder = "log"
"""
LOCKFILE = b"the lockfile's bytes"
CHALLENGE = bytes(range(50, 82))
PLACED = Path("certificates/tiny/certificate.json")
# Between the time of the scene's run and that of its appraisal.
BEFORE, AFTER = 1_793_437_200, 1_793_520_000


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.grow(3)
    return bench


@pytest.fixture
def server(bench: Bench) -> WitnessServer:
    return WitnessServer({ORIGIN: str(bench.key)}, now=BEFORE)


@pytest.fixture
def running(server: WitnessServer) -> Iterator[Site]:
    with site(server.answer) as answering:
        yield answering


def run(root: Path, *witnesses: tuple[str, str]) -> Run:
    tables = [f'[[log.witnesses]]\nurl = "{url}"\nkey = "{key}"\n' for url, key in witnesses]
    return config.parse(root, (TOML + "".join(tables)).encode()).run("tiny")


def written(path: Path, nonce: bytes) -> None:
    """Write a certificate that answers a nonce, as a machine does."""
    path.write_bytes(Scene("local", 2).put("nonce", nonce).get("file"))


def appraised(path: Path, bench: Bench, server: WitnessServer, nonce: bytes) -> list[str]:
    """Return the verdicts on nonce, log and times, under a policy that names log and witness."""
    scene = Scene("local", 2).put("nonce", nonce).put("file", path.read_bytes())
    log = NoteSigner(name="models", key=bench.key)
    witness = NoteSigner(name="first", key=VerifierKey.parse(server.key))
    scene.edit("policy", lambda p: replace(p, logs=(log,), witnesses=(witness,)))
    result = scene.appraise()
    checks = ("quote.nonce", "time.not-before", "log.included", "log.witnessed", "subject.files")
    return [result.check(check).verdict for check in checks]


@pytest.mark.parametrize("challenge", [None, CHALLENGE])
def test_a_run_begins_after_one_checkpoint_and_is_proved_by_another(
    challenge: bytes | None,
    tmp_path: Path,
    bench: Bench,
    server: WitnessServer,
    running: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny, path = run(tmp_path, (running.url, server.key)), tmp_path / "certificate.json"
    answer = time_stamps.before(tiny, LOCKFILE, challenge)
    assert answer is not None
    written(path, answer.nonce)
    bare = certificates.parse(path.read_bytes())
    server.now = AFTER
    time_stamps.add_answer(path, answer)
    logs.add_proof(tiny, path, PLACED)
    assert appraised(path, bench, server, answer.nonce) == ["ok"] * 5
    stamped = certificates.parse(path.read_bytes())
    assert certificates.core_digest(stamped) == certificates.core_digest(bare)
    assert answers(stamped, CHALLENGE) == (challenge is not None)
    shown = capsys.readouterr().err
    assert f"tiny: begins after 2026-10-31T09:00:00Z, by {server.name}" in shown
    assert f"tiny: logged, entry 3 of {ORIGIN}, cosigned by {server.name}" in shown


def test_a_run_that_does_not_say_so_is_not_logged(tmp_path: Path, bench: Bench) -> None:
    tiny, path = replace(run(tmp_path), log=None), tmp_path / "certificate.json"
    written(path, CHALLENGE)
    before = path.read_bytes()
    assert logs.before(tiny) is None
    logs.add_proof(tiny, path, PLACED)
    assert path.read_bytes() == before
    assert open_checkpoint(bench.part("checkpoint").read_bytes(), bench.key).size == 3


def test_a_log_without_witnesses_gives_a_proof_and_no_time(
    tmp_path: Path, bench: Bench, server: WitnessServer, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, path = run(tmp_path), tmp_path / "certificate.json"
    assert time_stamps.before(tiny, LOCKFILE, CHALLENGE) is None
    written(path, CHALLENGE)
    logs.add_proof(tiny, path, PLACED)
    assert appraised(path, bench, server, CHALLENGE)[2:4] == ["ok", "not-checked"]
    assert f"tiny: logged, entry 3 of {ORIGIN}\n" in capsys.readouterr().err


def test_a_run_that_ended_with_an_error_is_not_logged(
    tmp_path: Path, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "certificate.json"
    scene = Scene("local", 2).edit("report", lambda report: replace(report, exit_code="1"))
    path.write_bytes(scene.get("file"))
    logs.add_proof(run(tmp_path), path, PLACED)
    assert "not logged, because it ended with an error" in capsys.readouterr().err
    assert open_checkpoint(bench.part("checkpoint").read_bytes(), bench.key).size == 3


def test_no_run_begins_without_the_witnesses_that_are_asked_for(
    tmp_path: Path, bench: Bench, server: WitnessServer
) -> None:
    with (
        nobody() as url,
        pytest.raises(ToolError, match="run tiny was not started: cannot reach") as caught,
    ):
        time_stamps.before(run(tmp_path, (url, server.key)), LOCKFILE, None)
    assert caught.value.hint == "try again, or remove log = true from [runs.tiny]"
    bench.key_file.unlink()
    with pytest.raises(ToolError, match="run tiny was not started: cannot read"):
        time_stamps.before(run(tmp_path, (url, server.key)), LOCKFILE, None)


def typed(shown: str) -> list[list[str]]:
    """Return the commands in a hint."""
    (hint,) = [line for line in shown.splitlines() if line.startswith("hint: ")]
    return [one.split()[1:] for one in hint.removeprefix("hint: ").split(" && ")]


def test_a_run_that_finished_is_kept_without_the_log_and_can_be_logged_later(
    tmp_path: Path, bench: Bench, server: WitnessServer, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / PLACED
    path.parent.mkdir(parents=True)
    written(path, CHALLENGE)
    before = path.read_bytes()
    away = bench.folder.rename(tmp_path / "away")
    logs.add_proof(run(tmp_path), path, PLACED)
    assert path.read_bytes() == before
    shown = capsys.readouterr().err
    assert "warning: run tiny is not in the log: cannot open" in shown
    away.rename(bench.folder)
    monkeypatch.chdir(tmp_path)
    for words in typed(shown):
        assert main(words) == 0
    assert appraised(path, bench, server, CHALLENGE)[2] == "ok"


def test_a_witness_that_is_away_can_be_asked_later(
    tmp_path: Path, bench: Bench, server: WitnessServer, running: Site,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / PLACED
    path.parent.mkdir(parents=True)
    written(path, CHALLENGE)
    server.logs = {}
    logs.add_proof(run(tmp_path, (running.url, server.key)), path, PLACED)
    shown = capsys.readouterr().err
    assert f"tiny: logged, entry 3 of {ORIGIN}\n" in shown
    assert f"warning: run tiny lacks a cosignature: {server.name} does not know a log" in shown
    server.logs, server.now = {ORIGIN: str(bench.key)}, AFTER
    monkeypatch.chdir(tmp_path)
    for words in typed(shown):
        assert main(words) == 0
    assert appraised(path, bench, server, CHALLENGE)[2:4] == ["ok", "ok"]


def fork(bench: Bench, tmp_path: Path) -> None:
    """Replace the log in the folder by another one of the same key, which is as long."""
    bench.folder.rename(tmp_path / "first")
    last = bench.key_file.with_name(bench.key_file.name + ".last")
    last.unlink()
    writer.start(bench.folder, ORIGIN, bench.key_file)
    writer.append(bench.folder, bench.key_file, [b"other %d" % number for number in range(3)])


def test_a_witness_that_saw_another_log_is_no_warning(
    tmp_path: Path, bench: Bench, server: WitnessServer, running: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Somebody shows two logs: nothing that can be tried again would change that."""
    tiny, path = run(tmp_path, (running.url, server.key)), tmp_path / "certificate.json"
    assert logs.before(tiny) is not None
    fork(bench, tmp_path)
    written(path, CHALLENGE)
    with pytest.raises(BrokenLogError, match="run tiny is logged, but the log is not") as caught:
        logs.add_proof(tiny, path, PLACED)
    assert caught.value.exit_code == 1
    assert "the log has forked" in caught.value.message
    assert "aicert log check FOLDER --against" in (caught.value.hint or "")
    # The run keeps its proof: it shows one of the two logs.
    assert appraised(path, bench, server, CHALLENGE)[2:4] == ["ok", "not-checked"]
    assert "warning" not in capsys.readouterr().err
    with pytest.raises(BrokenLogError, match=r"run tiny was not started: .*forked") as caught:
        logs.before(tiny)
    assert "aicert log check FOLDER --against" in (caught.value.hint or "")


def test_a_log_that_was_rolled_back_is_no_warning(
    tmp_path: Path, bench: Bench, server: WitnessServer, running: Site
) -> None:
    tiny, path = run(tmp_path, (running.url, server.key)), tmp_path / "certificate.json"
    written(path, CHALLENGE)
    shutil.copytree(bench.folder, tmp_path / "earlier")
    bench.grow(2)
    shutil.rmtree(bench.folder)
    (tmp_path / "earlier").rename(bench.folder)
    with pytest.raises(BrokenLogError, match="run tiny is not in the log: ") as caught:
        logs.add_proof(tiny, path, PLACED)
    assert caught.value.exit_code == 1
