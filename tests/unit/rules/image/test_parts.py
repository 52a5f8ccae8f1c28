import json
import re
import struct
import zlib
from pathlib import Path

import pytest

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats import machine_io
from enclave_runner import options
from enclave_runner.boot import init
from rules.image import disk as image_disk
from rules.image import initrd, layers, pcrs, tasks, trees, wheels
from rules.image.store import Image


def newc(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Parse a newc archive independently: field by field, as in the kernel's documentation."""
    entries: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at += -(-(110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return entries
        entries[name] = (mode, archive[at : at + size])
        at += -(-size // 4) * 4


def test_initrd_holds_the_init_and_its_modules() -> None:
    modules = {name: name.encode() for name in initrd.MODULES}
    archive = initrd.build(b"init", modules)
    entries = newc(archive)
    assert entries["init"] == (0o100755, b"init")
    assert entries["modules/erofs.ko"] == (0o100644, b"erofs")
    assert entries["dev"] == (0o040755, b"")
    assert archive == initrd.build(b"init", dict(reversed(modules.items())))
    assert len(archive) % 512 == 0


def test_modules_are_those_that_the_init_loads() -> None:
    source = (Path(__file__).parents[4] / "image/machine/init.c").read_text(encoding="ascii")
    for form, wanted in (
        ("char *const MODULES[] = {", initrd.MODULES),
        ("GPU_MODULES[] = {", initrd.GPU_MODULES),
        ("NETWORK_MODULES[] = {", initrd.NETWORK_MODULES),
    ):
        listed = source.partition(form)[2].partition("};")[0]
        assert tuple(re.findall(r'"([^"]+)"', listed)) == wanted


def test_every_word_of_the_command_line_is_explained() -> None:
    text = (Path(__file__).parents[4] / "docs/spec/image.md").read_text(encoding="utf-8")
    table = text.partition("## The command line")[2].partition("\n## ")[0]
    explained = {word for cell in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
            for word in cell.split()}  # fmt: skip
    assert explained == {*layers.COMMAND_LINE, *layers.SERVING}


def test_kernel_without_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no module virtio_blk"):
        initrd.read_modules(tmp_path, "6.12")


def portable_executable(sections: dict[str, bytes], signature: bytes = b"") -> bytes:
    """Build a small PE32+ image from the specification's tables."""
    headers, body, at = b"", b"", 1024
    for name, content in sections.items():
        raw = content.ljust(-(-len(content) // 512) * 512, b"\0")
        headers += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(content), 0, len(raw), at, 0, 0, 0, 0, 0
        )
        body, at = body + raw, at + len(raw)
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 60, 1024)
    struct.pack_into("<I", optional, 64, 0xABCD)
    if signature:
        struct.pack_into("<II", optional, 112 + 32, at, len(signature))
    coff = struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, len(optional), 0)
    start = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + coff + optional + headers
    return start.ljust(1024, b"\0") + body + signature


def test_signature_and_checksum_do_not_change_what_is_measured() -> None:
    plain = portable_executable({".text": b"code"})
    signed = bytearray(portable_executable({".text": b"code"}, b"signature"))
    struct.pack_into("<I", signed, 64 + 24 + 64, 1)
    one = pcrs.authenticode(pcrs.parse(plain))
    assert pcrs.authenticode(pcrs.parse(bytes(signed))) == one
    other = portable_executable({".text": b"Code"})
    assert pcrs.authenticode(pcrs.parse(other)) != one


def test_every_section_is_measured_but_the_signatures_of_policies() -> None:
    kernel = portable_executable({".text": b"kernel"})
    sections = {".linux": kernel, ".cmdline": b"quiet", ".initrd": b"i", ".text": b"stub"}
    predicted = pcrs.predict(portable_executable(sections))
    assert predicted[12] == predicted[13] == bytes(32)
    for name in (".linux", ".cmdline", ".initrd"):
        content = kernel + b"\0" if name == ".linux" else b"other"
        other = pcrs.predict(portable_executable(sections | {name: content}))
        assert other[11] != predicted[11]
        assert other[4] != predicted[4]
    other = pcrs.predict(portable_executable(sections | {".text": b"other"}))
    assert other[11] == predicted[11]
    assert other[4] != predicted[4]


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + bytes(100), portable_executable({})])
def test_what_is_no_kernel_image_is_refused(data: bytes) -> None:
    with pytest.raises(ToolError):
        pcrs.predict(data)


def test_partition_tables_agree_and_carry_their_checksums(tmp_path: Path) -> None:
    (tmp_path / "esp").write_bytes(b"esp" * 1000)
    (tmp_path / "root").write_bytes(b"root" * 1_000_000)
    parts = [("esp", tmp_path / "esp"), ("root", tmp_path / "root")]
    image_disk.assemble(parts, tmp_path / "disk")
    disk = (tmp_path / "disk").read_bytes()
    last = len(disk) // 512 - 1
    for own, other in ((1, last), (last, 1)):
        header = disk[own * 512 : own * 512 + 92]
        fields = struct.unpack("<8sIIIIQQQQ16sQIII", header)
        assert (fields[0], fields[5], fields[6]) == (b"EFI PART", own, other)
        assert zlib.crc32(header[:16] + bytes(4) + header[20:]) == fields[3]
        table = disk[fields[10] * 512 :][: fields[11] * fields[12]]
        assert zlib.crc32(table) == fields[13]
        first, end = struct.unpack_from("<QQ", table, 128 + 32)
        assert disk[first * 512 :].startswith(b"root" * 1_000_000)
        assert end < last
    image_disk.assemble(parts, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == disk


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("usr/bin/python3.11", True),
        ("usr/bin/dash", False),
        ("usr/bin/apt-get", False),
        ("usr/sbin/ldconfig", True),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", True),
        ("usr/lib/python3.11/json/__init__.py", True),
        ("usr/lib/python3.11/test/support.py", False),
        ("usr/lib/systemd/systemd", False),
        ("usr/share/doc/x", False),
        ("etc/passwd", True),
        ("etc/shadow", False),
        ("training/bin/python", False),
        ("var/lib/dpkg/status", False),
        ("aicert-init", False),
    ],
)
def test_system_is_an_allow_list(name: str, kept: bool) -> None:
    assert trees.is_kept(name) is kept


def test_wheels_are_those_that_the_locks_name() -> None:
    wanted = wheels.wanted(Path(__file__).parents[4])
    names = {part: {item.name for item in items} for part, items in wanted.items()}
    assert names["runner"] == set(wheels.RUNNER)
    assert {"torch", "axolotl"} <= names["training"]
    (torch,) = (item for item in wanted["training"] if item.name == "torch")
    assert torch.version.endswith("+cpu")
    assert len(torch.hashes) == 1


ROOTS = f"quiet aicert.root={'ab' * 32},12 aicert.training={'cd' * 32},7\n"


def test_machine_is_what_its_command_line_names() -> None:
    roots = machine_io.verity_roots(ROOTS)
    assert roots == {"root": "sha256:" + "ab" * 32, "training": "sha256:" + "cd" * 32}


@pytest.mark.parametrize("line", ["", "quiet", ROOTS.replace("training", "other"), ROOTS[:-80]])
def test_machine_that_does_not_know_itself_stops(line: str) -> None:
    with pytest.raises(EvidenceError):
        machine_io.verity_roots(line)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"time-limit": 1}',
        b'{"time-limit": 1, "memory": 1, "processes": 1, "scratch-limit": 1, "threads": -1}',
        b'{"time-limit": 1, "memory": 1, "processes": 1, "scratch-limit": 1, "threads": true}',
        b'{"time-limit": 1, "memory": 1, "processes": 1, "scratch-limit": 1, "threads": 1, "x": 1}',
    ],
)
def test_limits_are_read_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    monkeypatch.setattr(init, "INPUTS", tmp_path)
    (tmp_path / "limits.json").write_bytes(text)
    with pytest.raises(AicertError):
        init.limits()


def test_the_machines_runner_is_told_who_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would check no permission; test_unreadable_inputs.py shows that it does."""
    names = ("time-limit", "memory", "processes", "scratch-limit", "threads")
    (tmp_path / "limits.json").write_text(json.dumps(dict.fromkeys(names, 7)))
    (tmp_path / "nonce").write_text("ab" * 32 + "\n")
    for name in ("config", "model"):
        (tmp_path / "inputs" / name).mkdir(parents=True)
    roots = machine_io.verity_roots(ROOTS)
    (tmp_path / "cmdline").write_text(ROOTS)
    monkeypatch.setattr(init, "INPUTS", tmp_path)
    monkeypatch.setattr(init, "COMMAND_LINE", tmp_path / "cmdline")
    monkeypatch.setattr(init, "_gpus", list)
    arguments = options.parse([*init._arguments(1), "--out=out"], None)
    assert arguments.trainer_user == init.TRAINER != 0
    assert arguments.input == {name: tmp_path / "inputs" / name for name in ("config", "model")}
    assert {name: str(digest) for name, digest in arguments.builder.items()} == roots
    assert (arguments.nonce, arguments.gpu, arguments.threads, arguments.scratch_limit) == (
        "ab" * 32,
        [],
        7,
        7,
    )


def test_an_image_that_differs_is_told_file_by_file(tmp_path: Path) -> None:
    line = "usr/bin/python3.11  0755  "
    images = []
    for name, digest in (("one", "aa"), ("other", "bb")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "root.manifest").write_text(f"same  0644  cc\n{line}{digest}\n")
        (folder / "training.manifest").write_text("same  0644  dd\n")
        (folder / "lock.toml").write_text(f'digest = "{digest}"\n')
        images.append(Image(folder=folder, disk=folder, tools=folder, lock=b""))
    differences = list(tasks._compare(*images))
    assert {f"-{line}aa", f"+{line}bb", '-digest = "aa"', '+digest = "bb"'} < set(differences)
    assert not [words for words in differences if "same" in words or "training" in words]
