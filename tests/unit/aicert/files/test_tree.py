import hashlib
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.files import tree
from aicert.files.bounded import read_bounded
from aicert.files.tree import SMALL, read_file, read_some, read_tree
from aicert.formats.digest import FileFact
from aicert.formats.listing import dir_digest, listing
from aicert.formats.paths import MAX_DEPTH


def write_files(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return root


def fact(data: bytes) -> FileFact:
    return FileFact(len(data), hashlib.sha256(data).hexdigest())


LARGE = bytes(range(256)) * (2 * SMALL // 256)
FILES = {
    "config.json": b"{}",
    "empty": b"",
    "at-the-limit": b"a" * SMALL,
    "above": b"a" * (SMALL + 1),
    "weights/1.safetensors": LARGE,
    "weights/2.safetensors": LARGE * 5,
    "weights/deep/é": b"x",
    ".hidden/file": b"y",
}


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_every_file_is_measured(tmp_path: Path, threads: int | None) -> None:
    write_files(tmp_path, FILES)
    seen: list[int] = []
    files = read_tree(tmp_path, on_bytes=seen.append, threads=threads)
    assert files == {name: fact(data) for name, data in FILES.items()}
    assert sum(seen) == sum(map(len, FILES.values()))


def test_sha256sum_agrees(tmp_path: Path) -> None:
    write_files(tmp_path / "tree", FILES)
    files = read_tree(tmp_path / "tree")
    (tmp_path / "list").write_bytes(listing(files))
    check = ["sha256sum", "--strict", "--quiet", "-c", "../list"]
    subprocess.run(check, cwd=tmp_path / "tree", check=True, capture_output=True)
    find = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum -- | sha256sum"
    printed = subprocess.run(
        ["sh", "-c", find], cwd=tmp_path / "tree", check=True, capture_output=True, text=True
    ).stdout
    assert dir_digest(files).hex == printed.split()[0]


@pytest.mark.parametrize("data", [b"", b"small", LARGE])
def test_one_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    seen: list[int] = []
    assert read_file(tmp_path / "file") == fact(data)
    assert read_file(tmp_path / "file", on_bytes=seen.append) == fact(data)
    assert sum(seen) == len(data)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def folder_link(path: Path) -> None:
    path.symlink_to("/etc")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    # A socket's path may be no longer than 108 bytes, so bind it from its folder.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


Maker = Callable[[Path], None]
SPECIAL = [
    (link, "symbolic link"),
    (folder_link, "symbolic link"),
    (dangling, "symbolic link"),
    (itself, "symbolic link"),
    (fifo, "FIFO"),
    (unix_socket, "socket"),
]


@pytest.mark.parametrize(("make", "kind"), SPECIAL)
@pytest.mark.parametrize("with_cache", [False, True])
def test_special_files_in_a_tree(tmp_path: Path, make: Maker, kind: str, with_cache: bool) -> None:
    write_files(tmp_path, {"a/b": b""})
    make(tmp_path / "a" / "special")
    known = (lambda path, status: "0" * 64) if with_cache else None
    with pytest.raises(EvidenceError, match=f"'a/special' is a {kind}: only regular files"):
        read_tree(tmp_path, known=known)


@pytest.mark.parametrize("make", [make for make, _ in SPECIAL])
def test_special_files_by_name(tmp_path: Path, make: Maker) -> None:
    make(tmp_path / "special")
    with pytest.raises(EvidenceError, match=r"only regular files|cannot read"):
        read_file(tmp_path / "special")


def test_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="'/dev/null' is a character device"):
        read_file(Path("/dev/null"))
    with pytest.raises(EvidenceError, match="is a directory"):
        read_file(tmp_path)
    with pytest.raises(EvidenceError) as caught:
        read_file(tmp_path / "missing")
    missing = str(tmp_path / "missing")
    assert caught.value.message == f"cannot read {missing!a}: No such file or directory"
    for mode, name in ((stat.S_IFBLK, "a block device"), (0, "not a regular file")):
        error = tree._not_regular("x", mode)
        assert error.message == f"'x' is {name}: only regular files can be certified"
        assert error.hint == "replace it with the file itself, for example with `cp -L`"


def test_roots_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "missing"):
        with pytest.raises(EvidenceError, match="cannot read"):
            read_tree(tmp_path / name)


def test_a_linked_root_is_told_with_where_it_leads(tmp_path: Path) -> None:
    write_files(tmp_path, {"models/weights": b""})
    link = tmp_path / "link"
    link.symlink_to("models")
    with pytest.raises(EvidenceError) as error:
        read_tree(link)
    expected = f"cannot read {str(link)!a}: it is a symbolic link, and links are not followed"
    assert error.value.message == expected
    assert error.value.hint == f"name the directory itself: {tmp_path / 'models'}"


def test_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(
        EvidenceError, match=r"an empty directory cannot be certified: '\.'"
    ) as error:
        read_tree(tmp_path)
    hint = "remove it, or put a file there: `find DIR -type d -empty` shows all of them"
    assert error.value.hint == hint
    write_files(tmp_path, {"a/b": b""})
    (tmp_path / "a" / "c").mkdir()
    with pytest.raises(EvidenceError, match="empty directory cannot be certified: 'a/c/'"):
        read_tree(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        b"\xff",
        b"a\n",
        b"a\x1b[31m",
        b"a\\b",
        "e\u0301".encode(),
        "a\u202egpj".encode(),
        b"\xed\xa0\x80",
    ],
)
@pytest.mark.parametrize("as_folder", [False, True])
def test_names_that_could_mislead(tmp_path: Path, name: bytes, as_folder: bool) -> None:
    place = os.fsencode(tmp_path) + b"/" + name
    if as_folder:
        os.mkdir(place)
        place += b"/x"
    with open(place, "wb"):
        pass
    with pytest.raises(EvidenceError, match="path ") as error:
        read_tree(tmp_path)
    assert error.value.message.isprintable()


@pytest.mark.parametrize("names", [("a", "A"), ("a/x", "A/y"), ("é", "É")])
def test_twins(tmp_path: Path, names: tuple[str, str]) -> None:
    write_files(tmp_path, dict.fromkeys(names, b""))
    with pytest.raises(EvidenceError, match="differ only in case"):
        read_tree(tmp_path)


def test_too_deep_and_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deepest = "/".join("d" * MAX_DEPTH)
    write_files(tmp_path, {f"{deepest}/x": b""})
    assert list(read_tree(tmp_path)) == [f"{deepest}/x"]
    write_files(tmp_path, {f"{deepest}/d/x": b""})
    with pytest.raises(EvidenceError, match="nested deeper than 64"):
        read_tree(tmp_path)
    write_files(tmp_path / "many", {str(number): b"" for number in range(3)})
    monkeypatch.setattr(tree, "MAX_FILES", 1)
    with pytest.raises(EvidenceError, match="more than 1 files"):
        read_tree(tmp_path / "many")


def test_what_is_left_out_is_not_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"keep": b"k", "skip": b"s", "folder/x": b"x", "only/skip": b""})
    fifo(tmp_path / "folder" / "pipe")
    asked: list[str] = []

    def skip(path: str) -> bool:
        asked.append(path)
        return path in ("folder/", "skip", "only/skip")

    assert read_tree(tmp_path, skip=skip) == {"keep": fact(b"k")}
    assert sorted(asked) == ["folder/", "keep", "only/", "only/skip", "skip"]


def test_a_cache_is_asked_and_told(tmp_path: Path) -> None:
    write_files(tmp_path, {"old": b"old", "new": b"new", "large": LARGE})
    learned: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def known(path: str, status: os.stat_result) -> str | None:
        sizes[path] = status.st_size
        return "0" * 64 if path == "old" else None

    def learn(path: str, status: os.stat_result, value: str) -> None:
        assert status.st_size == sizes[path]
        learned[path] = value

    files = read_tree(tmp_path, known=known, learned=learn)
    assert files["old"] == FileFact(3, "0" * 64)
    assert learned == {"new": fact(b"new").sha256, "large": fact(LARGE).sha256}
    assert sizes == {"old": 3, "new": 3, "large": len(LARGE)}


def test_a_read_error_is_typed() -> None:
    # Reading address 0 of our own memory gives EIO, from a file that looks regular.
    with pytest.raises(EvidenceError, match="cannot read '/proc/self/mem': Input/output error"):
        read_file(Path("/proc/self/mem"))


def test_some_files_are_read_by_name_and_no_others(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    fifo(tmp_path / "pipe")
    wanted = ["above", "weights/1.safetensors"]
    seen: list[int] = []
    files = read_some(tmp_path, wanted, on_bytes=seen.append)
    assert files == {path: fact(FILES[path]) for path in wanted}
    assert sum(seen) == sum(len(FILES[path]) for path in wanted)
    for bad, message in (("missing", "cannot read 'missing'"), ("pipe", "a FIFO")):
        with pytest.raises(EvidenceError, match=message):
            read_some(tmp_path, [bad, *wanted], threads=1)
    with pytest.raises(EvidenceError, match="plain relative path"):
        read_some(tmp_path, ["../x"])


@pytest.mark.parametrize(
    ("threads", "cores", "workers"), [(3, 2, 3), (None, 2, 2), (None, 64, 8), (None, None, 1)]
)
def test_files_are_read_by_a_thread_for_each_core_and_eight_at_most(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int | None,
    cores: int | None,
    workers: int,
) -> None:
    write_files(tmp_path, {"x": b""})
    asked: list[int | None] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int | None) -> None:
            asked.append(max_workers)
            super().__init__(max_workers)

    monkeypatch.setattr(tree, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    read_tree(tmp_path, threads=threads)
    read_some(tmp_path, ["x"], threads=threads)
    assert asked == [workers, workers]


@pytest.mark.parametrize("name", ["empty", "above"])
def test_an_error_while_a_file_is_looked_at_is_typed(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {name: FILES[name]})

    def broken(path: str, fd: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(EvidenceError, match=r"cannot read '[a-z.]+': Input/output error"):
        read_tree(tmp_path, look=broken)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(EvidenceError, match=r"cannot read '\.': Input/output error"):
        read_tree(tmp_path)


def test_a_file_that_may_not_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"sub/secret": b"x"})
    opened = os.open

    def forbidden(path: Any, *arguments: Any, **more: Any) -> int:
        if path == "secret":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **more)

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(EvidenceError, match="cannot read 'sub/secret': Permission denied"):
        read_tree(tmp_path)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    before = len(os.listdir("/proc/self/fd"))
    read_tree(tmp_path)
    fifo(tmp_path / "weights" / "pipe")
    with pytest.raises(EvidenceError):
        read_tree(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_is_called_one_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")
    message = (
        f"cannot read {str(tmp_path / 'link')!a}: it is a symbolic link, and links are not followed"
    )
    with pytest.raises(EvidenceError) as caught:
        read_file(tmp_path / "link")
    assert caught.value.message == message
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(EvidenceError, match="its symbolic links form a loop"):
        read_bounded(tmp_path / "loop", 10, "signature")
