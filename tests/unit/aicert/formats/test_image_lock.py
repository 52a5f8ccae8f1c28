from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.revoked_images import why_revoked
from aicert.errors import LockError
from aicert.formats import image_lock
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.image_lock import MAX_BYTES, ImageLock, Package, emit, parse

REPOSITORY = Path(__file__).resolve().parents[4]
DIGEST = Digest("sha256", "ab" * 32)
PCRS = {4: b"\x04" * 32, 11: b"\x0b" * 32, 12: bytes(32), 13: bytes(32)}
PACKAGES = (
    Package(part="machine", name="libc6", version="2.36-9+deb12u9", digest=DIGEST),
    Package(part="training", name="torch", version="2.13.0", digest=DIGEST),
)


def written(**changes: object) -> bytes:
    lock = replace(
        ImageLock(
            digest=DIGEST, name="machine", disk=DIGEST, pcrs=PCRS, verity={"root": DIGEST},
            packages=PACKAGES,
        ),
        **changes,  # type: ignore[arg-type]  # each test names real fields
    )  # fmt: skip
    return emit(
        name=lock.name, disk=lock.disk, pcrs=lock.pcrs, verity=lock.verity, packages=lock.packages,
        snapshot=lock.snapshot,
    )  # fmt: skip


def test_round_trip_and_identity() -> None:
    data = written()
    lock = parse(data)
    assert lock.digest == of_bytes(data)
    assert (lock.pcrs, lock.verity, lock.packages) == (PCRS, {"root": DIGEST}, PACKAGES)


def test_the_second_version_says_when_an_archive_had_its_packages() -> None:
    data = written(snapshot="20261127T202000Z")
    assert data.startswith(b"version = 2\nname = ")
    assert parse(data).snapshot == "20261127T202000Z"
    assert parse(written()).snapshot is None
    with pytest.raises(LockError, match="snapshot: 'today' is not a time"):
        written(snapshot="today")
    with pytest.raises(LockError, match=f"snapshot: '{'x' * 80}' is not a time"):
        written(snapshot="x" * 81)
    # Neither version accepts the other's keys.
    for other in (data.replace(b"version = 2", b"version = 1"), written().replace(b"= 1", b"= 2")):
        with pytest.raises(LockError):
            parse(other)


@pytest.mark.parametrize(
    "data",
    [
        written() + b"\n",
        written().replace(b"\n", b"\r\n"),
        written().replace(b"version = 1", b"version = 2", 1),
        written().replace(b"version = 1", b"version = true", 1),
        written() + b"note = 1\n",
        written().replace(b'pcr4 = "04', b'pcr4 = "0G'),
        written().replace(b"[pcrs]", b"[pcr]"),
        written().replace(b'name = "machine"\n', b""),
        written().replace(b"sha256:", b"md5:"),
        b"version = 1\npcrs = 3\n",
        b"version = 1\nname = 'x'\ndigest = 'sha256:" + b"a" * 64 + b"'\nverity = 3\n[pcrs]\n",
        b"[[",
        b"a=" + b"[" * 5000,
        "naïve".encode(),
        b"#" * (MAX_BYTES + 1),
    ],
)
def test_anything_but_the_canonical_form_is_refused(data: bytes) -> None:
    with pytest.raises(LockError):
        parse(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("naïve".encode(), "image lock is not ASCII"),
        (b"version = 1\npcrs = 3\n", "image lock: pcrs: expected a table"),
        (b"#" * (MAX_BYTES + 1), "image lock is larger than 1048576 bytes"),
        (b"version = 3\n", "image lock version is not 1 or 2"),
        (
            written(snapshot="20261127T202000Z").replace(b"snapshot = ", b"snapshots = "),
            "image lock: snapshot: expected a string",
        ),
        (b"version = 1\n[pcrs]\n", "image lock: name: expected a string"),
        (
            written().replace(b"sha256:", b"md5:", 1),
            f"image lock: not a digest: 'md5:{DIGEST.hex}'",
        ),
        (
            written().replace(b'pcr4 = "04', b'pcr4 = "0G'),
            "image lock: pcr4 is not 64 hexadecimal digits",
        ),
        (
            written().replace(f'pcr4 = "{PCRS[4].hex()}"'.encode(), b"pcr4 = 1"),
            "image lock: pcr4: expected a string",
        ),
        (
            written().replace(b'part = "machine"', b"part = 1"),
            "image lock: part: expected a string",
        ),
    ],
)
def test_what_is_wrong_is_said_in_full(data: bytes, message: str) -> None:
    with pytest.raises(LockError) as caught:
        parse(data)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "x" * 200}, f"image lock: '{'x' * 80}' is not a name"),
        ({"packages": PACKAGES[::-1]}, "image lock: packages are not sorted, or one is repeated"),
        ({"packages": (replace(PACKAGES[0], version=""),)}, "image lock: libc6: not a version"),
        ({"pcrs": {}}, "image lock: expected PCRs 4, 11, 12 and 13, 32 bytes each"),
    ],
)
def test_why_a_lock_is_not_written(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LockError) as caught:
        written(**changes)
    assert caught.value.message == message


def test_a_lock_that_is_no_toml_says_how_to_make_one() -> None:
    with pytest.raises(LockError) as caught:
        parse(b"[[")
    assert caught.value.hint == "./doit image"


@pytest.mark.parametrize("key", ["verity", "package"])
@pytest.mark.parametrize("value", [b"3", b"[1]", b'["a"]', b'"a"', b"[" + b"{}," * 5_001 + b"]"])
def test_tables_are_tables_and_bounded(key: str, value: bytes) -> None:
    head = written(verity={}, packages=())
    start = head.index(b"[pcrs]")
    with pytest.raises(LockError):
        parse(head[:start] + key.encode() + b" = " + value + b"\n" + head[start:])


def test_texts_are_no_tables() -> None:
    head = written(verity={}, packages=())
    start = head.index(b"[pcrs]")
    with pytest.raises(LockError) as caught:
        parse(head[:start] + b'package = ["a"]\n' + head[start:])
    assert caught.value.message == "image lock: package: expected tables, not strings"


def test_as_many_tables_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written()
    monkeypatch.setattr(image_lock, "MAX_PACKAGES", 2)
    monkeypatch.setattr(image_lock, "MAX_VERITY", 1)
    monkeypatch.setattr(image_lock, "MAX_BYTES", len(data))
    assert parse(data).packages == PACKAGES
    monkeypatch.setattr(image_lock, "MAX_PACKAGES", 1)
    with pytest.raises(LockError, match=r"^image lock: package: expected at most 1 tables$"):
        parse(data)
    monkeypatch.setattr(image_lock, "MAX_VERITY", 0)
    with pytest.raises(LockError, match=r"^image lock: verity: expected at most 0 tables$"):
        parse(data)
    monkeypatch.setattr(image_lock, "MAX_BYTES", len(data) - 1)
    with pytest.raises(LockError, match="is larger than"):
        parse(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 'x"'},
        {"packages": PACKAGES[::-1]},
        {"packages": PACKAGES[:1] * 2},
        {"packages": (replace(PACKAGES[0], version='1"'),)},
        {"pcrs": {4: bytes(32)}},
        {"pcrs": PCRS | {4: b""}},
        {"verity": {"a b": DIGEST}},
    ],
)
def test_what_a_lock_cannot_hold_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(LockError):
        written(**changes)


@pytest.mark.parametrize("name", ["image", "image-gpu"])
def test_no_image_of_this_checkout_is_revoked(name: str) -> None:
    data = (REPOSITORY / f"lockfiles/{name}.lock.toml").read_bytes()
    assert why_revoked(parse(data).pcrs[11]) is None
