"""Exports next to a certificate: complete or absent, and no remains of a killed process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.runs import exports
from tests.unit.sample_certificate import sample

# End by SIGKILL, which nobody can handle, before the `count`-th file gets its name.
KILLED = """
import os, sys
from pathlib import Path
from rules.runs import exports

count = int(sys.argv[2])
def fsync(descriptor):
    global count
    count -= 1
    if not count:
        os.kill(os.getpid(), 9)
os.fsync = fsync
exports.write(Path(sys.argv[1]))
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "beside" / "certificate.json"
    path.parent.mkdir()
    path.write_bytes(sample())
    return path


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_writer_left_goes_with_the_next_one(certificate: Path) -> None:
    for count in (1, 3):
        killed = subprocess.run([sys.executable, "-c", KILLED, certificate, str(count)])
        assert killed.returncode == -signal.SIGKILL
        assert [name for name in names_in(certificate.parent) if name.startswith(".")]
        assert not exports.are_written(certificate)
        exports.write(certificate)
        assert exports.are_written(certificate)
        names = names_in(certificate.parent)
        assert len(names) > 3
        assert not [name for name in names if name.startswith(".")]
        for name in names - {certificate.name}:
            certificate.with_name(name).unlink()


def test_only_what_differs_is_written(certificate: Path) -> None:
    exports.write(certificate)
    written = {path: path.stat().st_ino for path in certificate.parent.iterdir()}
    (certificate.parent / "scai.intoto.json").write_bytes(b"{}")
    exports.write(certificate)
    changed = [path.name for path, inode in written.items() if path.stat().st_ino != inode]
    assert changed == ["scai.intoto.json"]
    assert exports.are_written(certificate)


def test_a_device_or_a_link_is_not_replaced(certificate: Path) -> None:
    os.mkfifo(certificate.with_name("scai.intoto.json"))
    assert not exports.are_written(certificate)
    with pytest.raises(ToolError, match=r"scai\.intoto\.json.*a link or a special file"):
        exports.write(certificate)
