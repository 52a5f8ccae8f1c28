"""Exit codes stay true whatever lies beside a certificate, and whatever fails on output."""

import os
import sys
from pathlib import Path

import pytest

from aicert.cli import progress
from aicert.errors import EvidenceError
from aicert.verifier import verify as api
from tests.adversarial.forger import Scene
from tests.unit.aicert.cli.test_main import lay_out, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(Scene(), tmp_path)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("policy", ["local", "nobody's"])
def test_streams_that_take_nothing_change_no_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: str, policy: str
) -> None:
    """Python exits with 1 for an uncaught exception, which here means that the evidence failed."""
    (folder / "c.json").write_text("{}")
    wanted = 2 if policy == "local" else 3
    words = ("--format", form, "--policy", policy)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert verify(folder, *words) == wanted
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "stderr", None)
        assert verify(folder, *words) == (2 if form == "json" else wanted)
    monkeypatch.setattr(sys, "stdout", None)
    assert verify(folder, *words) == 2


def test_a_passed_certificate_is_no_pass_where_nobody_can_read_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BAR_AFTER", -1)
    monkeypatch.setattr(sys, "stderr", None)
    assert verify(folder) == 0
    monkeypatch.setattr(sys, "stdout", None)
    assert verify(folder) == 2


def test_a_lineage_is_a_certificate_or_a_folder_of_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Scene().get("file")
    for run in ("a", "b"):
        (folder / "runs" / run).mkdir(parents=True)
        (folder / "runs" / run / "certificate.json").write_bytes(file)
    (folder / "runs/no-run").mkdir()
    assert len(api.read_lineage([folder / "runs", folder / "c.json"])) == 3
    with pytest.raises(EvidenceError, match="holds 0 certificates"):
        api.read_lineage([folder / "model"])
    monkeypatch.setattr(api, "MAX_LINEAGE", 1)
    with pytest.raises(EvidenceError, match="holds 2 certificates"):
        api.read_lineage([folder / "runs"])
    monkeypatch.setattr(api, "MAX_LINEAGE", 2)
    monkeypatch.setattr(api, "MAX_LINEAGE_BYTES", 2 * len(file))
    assert len(api.read_lineage([folder / "runs"])) == 2
    with pytest.raises(EvidenceError, match="of the lineage have more than"):
        api.read_lineage([folder / "runs", folder / "c.json"])


def test_a_hostile_lineage_neither_hangs_nor_breaks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "runs/a").mkdir(parents=True)
    os.mkfifo(folder / "runs/a/certificate.json")
    with pytest.raises(EvidenceError, match="holds 0 certificates"):
        api.read_lineage([folder / "runs"])

    def refused(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(EvidenceError, match="Permission denied"):
        api.read_lineage([folder / "runs"])
