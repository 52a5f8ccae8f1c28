"""A verdict is reused only while the same files that were appraised are in place."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from aicert.appraisal.result import AttestationResult
from aicert.files.tree import read_tree
from aicert.formats.digest import Defect, FileFact
from aicert.formats.lockfile import identity
from rules.host.statuses import statuses
from rules.project import digests, results
from rules.project.config import Run
from rules.runs.verdict import Verdict

RUN = cast(Run, SimpleNamespace(name="r", outputs=("model",)))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with a run's results, which lay elsewhere when they were read."""
    monkeypatch.setattr(digests, "_handed_on", {})
    finished = tmp_path / "finished/model"
    (finished / "part").mkdir(parents=True)
    (finished / "weights").write_bytes(b"weights")
    (finished / "part/config").write_bytes(b"{}")
    certificate = results.certificate_path(tmp_path, "r")
    certificate.parent.mkdir(parents=True)
    certificate.write_bytes(b"certificate")
    (tmp_path / "lockfiles").mkdir()
    (tmp_path / "lockfiles/r.lock.toml").write_bytes(b"lock")
    return tmp_path


def verdict_of(root: Path, defects: dict[str, Defect] | None = None) -> Verdict:
    finished = root / "finished/model"
    verdict = Verdict(
        result=cast(AttestationResult, SimpleNamespace(verdict="passed")),
        certificate=b"certificate",
        lockfile=identity(b"lock"),
        model={**read_tree(finished), **(defects or {})},
        files=statuses(finished),
    )
    placed = results.output_path(root, RUN)
    placed.parent.mkdir(parents=True)
    shutil.copytree(finished, placed, copy_function=os.link)
    shutil.rmtree(finished)
    return verdict


def test_links_and_renames_leave_a_verdict_as_it_is(root: Path) -> None:
    verdict = verdict_of(root)
    assert verdict.passes
    assert verdict.is_of_what_is_in_place(root, RUN)


def copied(root: Path) -> None:
    # The same bytes in other files, as on another disk or in DVC's cache of copies.
    placed = results.output_path(root, RUN) / "weights"
    shutil.copy2(placed, placed.with_name("copy"))
    placed.with_name("copy").replace(placed)


def written(root: Path) -> None:
    placed = results.output_path(root, RUN) / "weights"
    placed.write_bytes(b"WEIGHTS")
    os.utime(placed, (1, 1))


def added(root: Path) -> None:
    (results.output_path(root, RUN) / "more").touch()


def linked(root: Path) -> None:
    (results.output_path(root, RUN) / "more").symlink_to("part")


def emptied(root: Path) -> None:
    (results.output_path(root, RUN) / "more").mkdir()


def removed(root: Path) -> None:
    (results.output_path(root, RUN) / "weights").unlink()


def other_certificate(root: Path) -> None:
    results.certificate_path(root, "r").write_bytes(b"another")


def no_certificate(root: Path) -> None:
    results.certificate_path(root, "r").unlink()


def other_lockfile(root: Path) -> None:
    (root / "lockfiles/r.lock.toml").write_bytes(b"another")


@pytest.mark.parametrize(
    "change",
    [
        copied,
        written,
        added,
        linked,
        emptied,
        removed,
        other_certificate,
        no_certificate,
        other_lockfile,
    ],
)
def test_whatever_else_lies_there_is_to_be_read(root: Path, change: Callable[[Path], None]) -> None:
    verdict = verdict_of(root)
    change(root)
    assert not verdict.is_of_what_is_in_place(root, RUN)


def test_digests_are_handed_on_until_a_file_changes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = results.output_path(root, RUN)
    monkeypatch.chdir(root)
    verdict = verdict_of(root)
    verdict.hand_on_digests(root, RUN)
    (facts,) = (files for _, files in digests._handed_on.values())
    assert digests.cached_tree(placed) == facts
    (placed / "weights").write_bytes(b"WEIGHTS")
    os.utime(placed / "weights", (1, 1))
    changed = digests.cached_tree(placed)["weights"]
    assert isinstance(changed, FileFact)
    assert changed != facts["weights"]


def test_digests_of_a_model_with_a_defect_are_not(root: Path) -> None:
    verdict_of(root, {"strange": Defect("a link")}).hand_on_digests(root, RUN)
    assert not digests._handed_on
