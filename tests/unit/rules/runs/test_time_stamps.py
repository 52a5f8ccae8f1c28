"""Time stamps of a run: a nonce made from one, the token that is added, and no network."""

from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.checks.quote import answers
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from aicert.formats.certificate import Certificate
from aicert.formats.lockfile import identity
from rules.project import config
from rules.project.config import Run
from rules.runs import time_stamps
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import BEFORE
from tests.unit.authority import Authority, authority, running
from tests.unit.servers import Site, nobody

__all__ = ["authority", "running"]

TOML = b"""
[runs.tiny]
config = "path:tiny.yml"
machine = "local"
outputs = ["model"]
inputs = {}
[machines.local]
driver = "local"
"""
LOCKFILE = b"the lockfile's bytes"
CHALLENGE = bytes(range(50, 82))


def run(root: Path, url: str | None) -> Run:
    more = "" if url is None else f'[time-authority]\nurl = "{url}"\n'
    return config.parse(root, TOML + more.encode()).run("tiny")


def written(path: Path, nonce: bytes) -> Certificate:
    """Write a certificate that answers a nonce, as a machine does, and return it."""
    path.write_bytes(Scene("local", 2).put("nonce", nonce).get("file"))
    return certificates.parse(path.read_bytes())


def appraised(path: Path, authority: Authority, nonce: bytes, challenge: bytes | None) -> list[str]:
    """Return the verdicts on nonce and times, under a policy that names the authority."""
    scene = Scene("local", 2).put("nonce", nonce).put("file", path.read_bytes())
    scene.edit("policy", lambda p: replace(p, time_authorities=(authority.token.authority(),)))
    scene.caller_nonce = challenge
    result = scene.appraise()
    checks = ("quote.nonce", "time.token", "time.not-before", "subject.files")
    return [result.check(check).verdict for check in checks]


@pytest.mark.parametrize("challenge", [None, CHALLENGE])
def test_a_run_begins_after_one_time_stamp_and_ends_before_another(
    challenge: bytes | None,
    tmp_path: Path,
    authority: Authority,
    running: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny = run(tmp_path, running.url)
    authority.token = authority.token.with_(time=BEFORE)
    answer = time_stamps.before(tiny, LOCKFILE, challenge)
    assert answer is not None
    assert identity(LOCKFILE).hex in running.requests[0].body.hex()
    path = tmp_path / "certificate.json"
    bare = written(path, answer.nonce)
    assert not answers(bare, CHALLENGE)
    time_stamps.add_answer(path, answer)
    authority.token = Authority().token
    time_stamps.add_token(tiny, path, Path("certificates/tiny/certificate.json"))
    assert appraised(path, authority, answer.nonce, challenge) == ["ok"] * 4
    stamped = certificates.parse(path.read_bytes())
    assert certificates.core_digest(stamped) == certificates.core_digest(bare)
    assert answers(stamped, CHALLENGE) == (challenge is not None)
    shown = capsys.readouterr().err
    assert f"tiny: begins after 2026-10-31T09:30:00Z, by {running.url}" in shown
    assert f"tiny: stamped 2026-10-31T18:00:00Z, by {running.url}" in shown


def test_without_an_authority_nothing_is_asked_and_nothing_changes(tmp_path: Path) -> None:
    tiny, path = run(tmp_path, None), tmp_path / "certificate.json"
    written(path, CHALLENGE)
    before = path.read_bytes()
    assert time_stamps.before(tiny, LOCKFILE, CHALLENGE) is None
    time_stamps.add_answer(path, None)
    time_stamps.add_token(tiny, path, path)
    assert path.read_bytes() == before


def test_no_run_begins_without_the_time_stamp_that_is_asked_for(tmp_path: Path) -> None:
    with (
        nobody() as url,
        pytest.raises(ToolError, match="run tiny was not started: cannot reach") as caught,
    ):
        time_stamps.before(run(tmp_path, url), LOCKFILE, None)
    assert caught.value.hint == "try again, or remove [time-authority] from aicert.toml"


def test_a_run_that_finished_is_kept_without_a_time_stamp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "certificate.json"
    written(path, CHALLENGE)
    before = path.read_bytes()
    placed = Path("certificates/tiny/certificate.json")
    with nobody() as url:
        time_stamps.add_token(run(tmp_path, url), path, placed)
    assert path.read_bytes() == before
    shown = capsys.readouterr().err
    assert "run tiny has no time stamp: cannot reach the time authority" in shown
    assert f"aicert timestamp {placed} --tsa {url}" in shown
