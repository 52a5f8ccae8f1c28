from pathlib import Path

import pytest

from aicert.errors import EvidenceError, ToolError
from aicert.formats.machine_io import STREAM_HEADER as HEADER
from enclave_runner.boot.output_stream import write_stream
from rules.image.store import Image
from rules.machines import volumes
from rules.machines.volumes import read_output


def test_an_input_that_only_its_owner_may_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/secret.bin").touch(0o600)
    with pytest.raises(ToolError, match=r"input data: .*'secret.bin'") as caught:
        volumes._check_readable("data", tmp_path / "data")
    assert caught.value.hint == f"chmod -R a+rX {tmp_path / 'data'}"
    (tmp_path / "data/secret.bin").chmod(0o604)
    volumes._check_readable("data", tmp_path / "data")


def read(tmp_path: Path, stream: bytes) -> dict[str, bytes]:
    volume, target = tmp_path / "volume", tmp_path / "target"
    volume.write_bytes(stream + bytes(5000))
    target.mkdir()
    read_output(volume, target)
    files = (path for path in target.rglob("*") if path.is_file())
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in files}


def test_what_the_machine_writes_is_what_the_host_reads(tmp_path: Path) -> None:
    files = {"certificate.json": b"{}", "outputs/model/a b": b"x" * 3_000_000, "training.log": b""}
    for name, data in files.items():
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    device = tmp_path / "device"
    device.touch()
    write_stream(tmp_path / "out", device)
    assert device.stat().st_size % 4096 == 0
    assert read(tmp_path, device.read_bytes()) == files


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        HEADER,
        HEADER[:-1],
        HEADER + b"file 3 a\nabc",
        HEADER + b"file 9000 a\nabcend\n",
        HEADER + b"file 3 ../a\nabcend\n",
        HEADER + b"file 3 /a\nabcend\n",
        HEADER + b"file 3 a/../../b\nabcend\n",
        HEADER + b"file 3 a\nabcfile 3 a\nabcend\n",
        HEADER + b"file 3 a\nabcfile 3 a/b\nabcend\n",
        HEADER + b"file 3 a/b\nabcfile 3 a\nabcend\n",
        HEADER + b"file -3 a\nabcend\n",
        HEADER + b"file 03 a\nabcend\n",
        HEADER + b"file 99999999999999999999 a\nabcend\n",
        HEADER + b"file 3 \xff\nabcend\n",
        HEADER + b"file 3 a\0b\nabcend\n",
        HEADER + b"file 3 a\x1b[2J\nabcend\n",
        HEADER + b"link 3 a\nabcend\n",
        HEADER + b"file 3 " + b"a" * 5000 + b"\nabcend\n",
        HEADER + b"end",
    ],
)
def test_anything_else_is_refused(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(EvidenceError):
        read(tmp_path, stream)
    assert not list(tmp_path.parent.glob("[ab]"))


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "not JSON"), (None, "cannot read certificate"), (1, "larger than")]
)
def test_a_machine_that_leaves_no_certificate_is_told(
    tmp_path: Path, content: bytes | int | None, words: str
) -> None:
    image = Image(folder=tmp_path, disk=tmp_path, tools=tmp_path, lock=b"")
    path = tmp_path / "certificate.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(EvidenceError, match=words):
        volumes.attach_lock(path, image)
