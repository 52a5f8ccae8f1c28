"""`aicert timestamp` adds a time stamp or leaves the file unchanged."""

import json
from pathlib import Path
from typing import Any

import pytest

from aicert.cli.main import main
from aicert.formats import certificate as certificates
from tests.adversarial import ca_forge
from tests.adversarial.attacks_time import IN_TEN_YEARS, timestamps
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import integer
from tests.unit.authority import Authority, authority, running
from tests.unit.servers import Site
from tests.vectors.generate import policy_files

__all__ = ["authority", "running"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "certificate.json"
    file.write_bytes(Scene("cloud", 2).get("file"))
    return file


def run(*words: object) -> int:
    return main(["timestamp", *map(str, words)])


def test_a_certificate_is_stamped_and_verifies_when_its_platform_has_expired(
    path: Path, authority: Authority, running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene("cloud", 2)
    policy = path.parent / "policy.toml"
    pem = path.parent / "time.pem"
    pem.write_bytes(ca_forge.pem(authority.token.root()))
    for name, text in policy_files(scene.get("policy")).items():
        (path.parent / name).write_text(text)
    policy.write_text(
        policy.read_text() + f'[[time-authority]]\nname = "t"\ncertificate = "time.pem"\n'
        f'sha256 = "{ca_forge.hash_of(authority.token.root())}"\n'
    )
    words = ["verify", str(path), "--policy", str(policy), "--certificate-only", "--at"]
    assert main([*words, IN_TEN_YEARS.isoformat()]) == 1
    assert "platform.chain" in capsys.readouterr().out

    assert run(path, "--tsa", running.url) == 0
    digest = certificates.core_digest(certificates.parse(scene.get("file")))
    assert capsys.readouterr().out == (
        f"stamped  {path}\ndigest   {digest}\ntime     2026-10-31T18:00:00Z, by {running.url}\n"
    )
    assert main([*words, IN_TEN_YEARS.isoformat()]) == 0
    shown = capsys.readouterr().out
    assert "time of t" in shown

    assert run(path, "--tsa", running.url, "--format", "json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"certificate": str(digest), "time": "2026-10-31T18:00:00Z"}
    assert len(certificates.parse(path.read_bytes()).evidence.timestamps) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": bytes(32)}, "answered a different request"),
        ({"more_info": integer(1)}, "answered a different request"),
        ({"more_info": b""}, "answered a different request"),
        ({"signature": b"\x30\x06\x02\x01\x01\x02\x01\x01"}, "not made by this key"),
    ],
)
def test_another_answer_changes_nothing(
    changes: dict[str, Any],
    message: str,
    path: Path,
    authority: Authority,
    running: Site,
    capsys: pytest.CaptureFixture[str],
) -> None:
    authority.changes = changes
    before = path.read_bytes()
    assert run(path, "--tsa", running.url) == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_certificate_holds_so_many(
    path: Path, running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    full = timestamps(certificates.parse(path.read_bytes()), *["x"] * 8)
    path.write_bytes(certificates.emit(full))
    assert run(path, "--tsa", running.url) == 2
    assert "already has 8 time stamps" in capsys.readouterr().err
    assert running.requests == []


def test_a_file_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-", "--tsa", "https://tsa.example") == 3
    assert "name it" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "aicert.sources.time_authority", raising=False)
    assert run(path, "--tsa", "https://tsa.example") == 2
    assert "pip install '.[sources]'" in capsys.readouterr().err
