"""What the training environment loses: the list's effect on packages made here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rules.host import hardening
from rules.host.hardening import Absent, Edit, NotAsListedError

ROOT = Path(__file__).resolve().parents[4]
SPECIFICATION = (ROOT / "docs" / "spec" / "image.md").read_text()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "site-packages"
    (place / "one" / "many").mkdir(parents=True)
    (place / "one" / "__init__.py").write_text("from .many import zip\nzip()\n")
    (place / "one" / "many" / "zip.py").write_text("")
    (place / "two").mkdir()
    (place / "two-1.0.dist-info").mkdir()
    absent = (
        Absent(paths=("one/many",), why="x"),
        Absent(paths=("two", "two-*.dist-info", "three", "three/x.py"), why="x"),
    )
    edits = (
        Edit(path="one/__init__.py", before="from .many import zip\nzip()\n", after="", why="x"),
        Edit(path="three/__init__.py", before="a", after="b", why="x"),
        Edit(path="first.pth", after="import os\n", why="x"),
    )
    monkeypatch.setattr(hardening, "ABSENT", absent)
    monkeypatch.setattr(hardening, "EDITS", edits)
    return place


def test_what_is_listed_is_gone_and_edited(packages: Path) -> None:
    hardening.harden(packages)
    left = {str(path.relative_to(packages)) for path in packages.rglob("*")}
    assert left == {"one", "one/__init__.py", "first.pth"}
    assert (packages / "one" / "__init__.py").read_text() == ""
    assert (packages / "first.pth").read_text() == "import os\n"


def test_what_a_link_shares_with_elsewhere_stays(packages: Path, tmp_path: Path) -> None:
    os.link(packages / "one" / "__init__.py", tmp_path / "elsewhere")
    hardening.harden(packages)
    assert (tmp_path / "elsewhere").read_text().startswith("from .many")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda place: (place / "one/__init__.py").write_text("other"), "holds 0 times"),
        (lambda place: (place / "one/__init__.py").unlink(), "holds 0 times"),
        (
            lambda place: (place / "one/__init__.py").write_text(
                "from .many import zip\nzip()\n" * 2
            ),
            "holds 2 times",
        ),
        (lambda place: (place / "one/many").rename(place / "one/other"), "not there to be removed"),
    ],
)
def test_packages_that_the_list_does_not_fit_are_refused(
    packages: Path, change: object, message: str
) -> None:
    assert callable(change)
    change(packages)
    with pytest.raises(NotAsListedError, match=message):
        hardening.harden(packages)


def test_a_file_to_be_replaced_must_be_there(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardening, "EDITS", (Edit(path="one/new.py", after="x", why="x"),))
    with pytest.raises(NotAsListedError, match="not there to be replaced"):
        hardening.harden(packages)


def test_the_digest_is_of_what_is_done_and_not_of_the_reasons(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hardening.digest()
    monkeypatch.setattr(hardening, "ABSENT", (Absent(paths=("one/many",), why="another"),))
    less = hardening.digest()
    monkeypatch.setattr(hardening, "ABSENT", (Absent(paths=("one/many",), why="x"),))
    assert hardening.digest() == less != before
    assert packages.is_dir()


def test_the_program_does_the_same_with_nothing_but_the_standard_library(tmp_path: Path) -> None:
    program = tmp_path / "hardening.py"
    program.write_bytes((ROOT / "rules/host/hardening.py").read_bytes())
    place = tmp_path / "site-packages"
    place.mkdir()
    subprocess.run([sys.executable, "-I", "-S", program, place], check=True, cwd=tmp_path)
    assert [path.name for path in place.iterdir()] == ["0-aicert.pth"]


def _module(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".py").partition(".")[0].lstrip("_")


@pytest.mark.parametrize("path", [path for entry in hardening.ABSENT for path in entry.paths])
def test_the_specification_names_what_is_removed(path: str) -> None:
    assert f"`{_module(path).removesuffix('-*')}`" in SPECIFICATION


@pytest.mark.parametrize("path", sorted({edit.path for edit in hardening.EDITS}))
def test_the_specification_names_what_is_edited(path: str) -> None:
    assert re.search(rf"`{re.escape(path)}`", SPECIFICATION)
