"""`aicert log bundle` and `aicert log trusted-root`, as a person types them."""

import json
from pathlib import Path
from typing import Any

import pytest

from aicert.cli.main import main
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene
from tests.unit.authority import Authority, authority, running
from tests.unit.servers import Site

__all__ = ["authority", "running"]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "certificate.json").write_bytes(Scene("cloud", 2).get("file"))
    assert log("init", tmp_path / "log", "--origin", "log.example") == 0
    capsys.readouterr()
    return tmp_path


def log(*words: object) -> int:
    return main(["log", *map(str, words)])


def test_a_bundle_is_written(
    folder: Path, running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, out = folder / "certificate.json", folder / "bundle.json"
    words = ["bundle", folder / "log", certificate, "--tsa", running.url, "-o", out]
    assert log("append", folder / "log", certificate) == 0
    capsys.readouterr()
    # No authority was asked for a time that would prove nothing.
    assert log(*words) == 1
    assert "aicert log append FOLDER CERT --sigstore" in capsys.readouterr().err
    assert not running.requests
    assert not out.exists()
    assert log("append", folder / "log", certificate, "--sigstore") == 0
    shown = capsys.readouterr().out
    assert "1 of 2 entries of 1 certificate, and already had 1 other" in shown
    assert log(*words) == 0
    shown = capsys.readouterr().out
    assert "entry 1 of log.example" in shown
    assert f"2026-10-31T18:00:00Z, by {running.url}" in shown
    bundle: Any = json.loads(out.read_bytes())
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert log(*words, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["verified"] is False
    # A search does not present such an entry as a run.
    assert log("find", folder / "log", "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 1


def test_a_log_that_cosign_cannot_name_is_refused_before_anybody_is_asked(
    folder: Path, running: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = folder / "certificate.json"
    assert log("init", folder / "other", "--origin", "log.example/models") == 0
    assert log("append", folder / "other", certificate, "--sigstore") == 0
    words = ["bundle", folder / "other", certificate, "--tsa", running.url]
    assert log(*words, "-o", folder / "bundle.json") == 3
    assert "cosign knows logs by host name" in capsys.readouterr().err
    assert not running.requests


def test_a_trusted_root_is_what_a_policy_names(
    folder: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = authority.token.root(), folder / "trusted_root.json"
    digest = ca_forge.hash_of(root)
    (folder / "time.pem").write_bytes(ca_forge.pem(root))
    time = f'[[time-authority]]\nname = "t"\ncertificate = "time.pem"\nsha256 = "{digest}"\n'
    key = (folder / "log/log.vkey").read_text().strip()
    policy = folder / "policy.toml"
    words = ["trusted-root", "--policy", policy, "-o", out]
    assert log(*words) == 3
    assert "policy.toml" in capsys.readouterr().err
    policy.write_text(f'extends = "local"\n{time}')
    assert log(*words) == 3
    assert "names no log, or no time authority" in capsys.readouterr().err
    policy.write_text(f'extends = "local"\n{time}[[log]]\nname = "models"\nkey = "{key}"\n')
    assert log(*words) == 0
    shown = capsys.readouterr().out
    assert "log       models, log.example\ntime      t\n" in shown
    document: Any = json.loads(out.read_bytes())
    assert [one["baseUrl"] for one in document["tlogs"]] == ["https://log.example"]
    assert len(document["timestampAuthorities"]) == 1
    assert log(*words, "--format", "json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"logs": ["log.example"], "authorities": ["t"]}
