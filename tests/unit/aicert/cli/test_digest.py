"""`aicert digest`: what lockfiles call a directory, against coreutils."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from aicert.cli.main import main

NAMES = ("weights", "sub/b", "Zed", "a b", "README.md")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    for name in NAMES:
        (root / name).write_text(name)
    return root


def test_the_digest_of_a_directory_is_that_of_its_listing(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum"
    expected = subprocess.run(
        ["bash", "-c", script], cwd=model, capture_output=True, check=True
    ).stdout
    assert main(["digest", str(model)]) == 0
    digest = f"dirHash:{hashlib.sha256(expected).hexdigest()}"
    assert capsys.readouterr().out == f"{digest}  {model}\n"
    assert main(["digest", str(model), "--files"]) == 0
    printed = capsys.readouterr().out
    assert printed.encode() == expected
    check = subprocess.run(["sha256sum", "--check", "--strict"], cwd=model, input=printed,
                           text=True, capture_output=True, check=False)  # fmt: skip
    assert check.returncode == 0, check.stderr
    assert main(["digest", str(model), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["digest"] == digest
    assert list(document["files"]) == sorted(NAMES)


def test_the_digest_of_a_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = model / "weights"
    assert main(["digest", str(file)]) == 0
    digest = hashlib.sha256(b"weights").hexdigest()
    assert capsys.readouterr().out == f"sha256:{digest}  {file}\n"
    assert main(["digest", str(file), "--files"]) == 3
    assert main(["digest", str(file), "--ignore", "a"]) == 3


def test_what_is_left_out_is_as_if_it_were_not_there(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digest", str(model), "--ignore", "README.md", "--ignore", "sub/"]) == 0
    without = capsys.readouterr().out
    (model / "README.md").unlink()
    (model / "sub" / "b").unlink()
    (model / "sub").rmdir()
    assert main(["digest", str(model)]) == 0
    assert capsys.readouterr().out == without
    assert main(["digest", str(model), "--ignore", "../x"]) == 3


def test_what_verify_takes_as_harmless_is_so_here(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A snapshot in the hub's cache consists of links to blobs; a disk has its lost+found."""
    assert main(["digest", str(model), "--files"]) == 0
    expected = capsys.readouterr().out
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / ("a" * 40)
    (snapshot / "sub").mkdir(parents=True)
    (cache / "blobs").mkdir()
    for index, name in enumerate(NAMES):
        blob = cache / "blobs" / f"{index:040x}"
        blob.write_text(name)
        (snapshot / name).symlink_to(f"{'../' * (name.count('/') + 2)}blobs/{blob.name}")
    (snapshot / "lost+found").mkdir()
    assert main(["digest", str(snapshot), "--files"]) == 0
    assert capsys.readouterr().out == expected
    (snapshot / "link").symlink_to("/etc/hostname")
    assert main(["digest", str(snapshot)]) == 2
    assert "'link' is a symbolic link" in capsys.readouterr().err


def test_what_cannot_be_read_has_no_digest(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digest", str(tmp_path / "none")]) == 2
    (model / "link").symlink_to("weights")
    assert main(["digest", str(model)]) == 2
    assert "link" in capsys.readouterr().err
