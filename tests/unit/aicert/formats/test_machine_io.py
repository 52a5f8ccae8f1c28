"""Messages between host and machine: each side reads exactly what the other writes.

The parts that are written in other languages agree.
"""

import re
from pathlib import Path

import pytest

from aicert.errors import AicertError, EvidenceError
from aicert.formats import machine_io, tpm
from aicert.formats.paths import MAX_PATH_BYTES

ROOT = Path(__file__).resolve().parents[4]
INIT = (ROOT / "image/machine/init.c").read_text()
LIMITS = machine_io.limits(seconds=1, memory=2, processes=3, scratch=4, threads=5)


def test_limits_are_read_as_they_were_written() -> None:
    assert tuple(LIMITS) == machine_io.LIMITS
    assert machine_io.parse_limits(machine_io.emit_limits(LIMITS)) == LIMITS


@pytest.mark.parametrize(
    "values",
    [
        {},
        LIMITS | {"more": 1},
        {name: value for name, value in LIMITS.items() if name != "memory"},
        LIMITS | {"memory": 0},
        LIMITS | {"memory": True},
        LIMITS | {"memory": "2"},
        LIMITS | {"memory": 2.5},
    ],
)
def test_other_limits_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(EvidenceError, match=r"limits\.json"):
        machine_io.parse_limits(machine_io.emit_limits(values))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b" " * (machine_io.MAX_LIMITS + 1)])
def test_what_is_no_limits_file_is_refused(data: bytes) -> None:
    with pytest.raises(AicertError):
        machine_io.parse_limits(data)


def test_a_nonce_is_read_as_it_was_written() -> None:
    nonce = bytes(range(32))
    assert machine_io.parse_nonce(machine_io.emit_nonce(nonce)) == nonce.hex()
    assert len(machine_io.emit_nonce(nonce)) < machine_io.MAX_NONCE


@pytest.mark.parametrize("data", [b"", b"ab" * 32, b"AB" * 32 + b"\n", b"ab" * 32 + b"\n\n"])
def test_what_is_no_nonce_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="no nonce of 32 bytes"):
        machine_io.parse_nonce(data)


def test_an_event_is_read_as_it_was_written() -> None:
    line = machine_io.emit_event(machine_io.TRAINING, {"step": 1, "loss": 0.5})
    assert line == b'{"event":"training","step":1,"loss":0.5}\n'
    assert machine_io.parse_event(line) == {"event": "training", "step": 1, "loss": 0.5}


@pytest.mark.parametrize("line", [b"", b"[1]\n", b"1\n", b"booting\n", b"\xff\n", b"[" * 4000])
def test_a_line_of_the_console_is_no_event(line: bytes) -> None:
    assert machine_io.parse_event(line) is None


def test_the_command_line_names_the_volumes_as_they_are_read() -> None:
    roots = dict(zip(machine_io.VERITY_VOLUMES, ("ab" * 32, "cd" * 32), strict=True))
    words = [machine_io.verity_word(name, root, 7) for name, root in roots.items()]
    read_roots = machine_io.verity_roots(" ".join(["quiet", *words]) + "\n")
    assert read_roots == {name: f"sha256:{root}" for name, root in roots.items()}
    with pytest.raises(EvidenceError, match="once each"):
        machine_io.verity_roots(" ".join([*words, words[0]]))


def test_a_file_of_the_longest_path_is_read_as_it_was_written() -> None:
    name = "é" * (MAX_PATH_BYTES // 2)
    line = machine_io.file_line(name, 10**15)
    assert len(line) <= machine_io.MAX_FILE_LINE
    assert machine_io.parse_file_line(line) == (name.encode(), 10**15)


@pytest.mark.parametrize("line", [b"", b"end", b"file 01 a\n", b"file -1 a\n", b"link 1 a\n"])
def test_what_is_no_file_line_is_refused(line: bytes) -> None:
    with pytest.raises(EvidenceError, match="malformed"):
        machine_io.parse_file_line(line)


def test_the_run_key_has_the_attributes_that_the_specification_names() -> None:
    # fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|stClear|sign: Part 2, 8.3.2.
    bits = (1, 4, 5, 6, 2, 18)
    assert sum(1 << bit for bit in bits) == machine_io.RUN_KEY_ATTRIBUTES
    assert not machine_io.RUN_KEY_ATTRIBUTES & ~(2**32 - 1)
    assert tpm.SIGN == 1 << 18


def test_the_machines_init_knows_the_same_disks_volumes_and_trailer() -> None:
    assert f"#define BLOCK {machine_io.BLOCK}\n" in INIT
    assert machine_io.INPUT_TRAILER.decode().endswith("\n")
    assert f'#define TRAILER "{machine_io.INPUT_TRAILER.decode().strip()}\\n"\n' in INIT
    disks = re.findall(r'find_disk\("([a-z-]+)", ([0-9]+),', INIT)
    wanted = [machine_io.IMAGE_DISK, machine_io.INPUT_DISK]
    assert disks == [(disk.serial, str(disk.lun)) for disk in wanted]
    keys = re.findall(r'from_command_line\(line, "([^"]+)"', INIT)
    assert keys == [f"aicert.{name}=" for name in machine_io.VERITY_VOLUMES]


def test_the_machines_inits_start_modules_that_are_there() -> None:
    assert 'RUNNER, "-I", "-m", PROGRAM, NULL' in INIT
    modules = re.findall(r'#define PROGRAM "([a-z_.]+)"', INIT)
    # The first module is that of machines that serve.
    assert modules == ["enclave_runner.serving.boot", "enclave_runner.boot.init"]
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_the_inputs_last_block_has_the_form_that_init_reads() -> None:
    block = machine_io.input_trailer("ab" * 32, 17)
    assert len(block) == machine_io.BLOCK
    assert machine_io.INPUT_DISK.serial == "aicert-inputs"
    assert block.rstrip(b"\0") == b"aicert inputs 1\n" + b"ab" * 32 + b"\n17\n"


def test_azure_attaches_the_disks_under_the_same_numbers() -> None:
    terraform = (ROOT / "terraform/azure/main.tf").read_text()
    blocks = re.findall(r'data_disk_attachment" "([a-z]+)" \{(.*?)\n\}', terraform, re.DOTALL)
    numbers = {name: re.findall(r"lun += ([0-9]+)", text) for name, text in blocks}
    wanted = (machine_io.OUTPUT_DISK, machine_io.INPUT_DISK)
    assert numbers == {disk.name: [str(disk.lun)] for disk in wanted}


def test_the_command_line_names_each_volume_once() -> None:
    words = [machine_io.verity_word(name, "ab" * 32, 8) for name in machine_io.VERITY_VOLUMES]
    roots = machine_io.verity_roots(" ".join(["quiet", *words]) + "\n")
    assert roots == dict.fromkeys(machine_io.VERITY_VOLUMES, "sha256:" + "ab" * 32)
    for wrong in ("", words[0], " ".join([*words, words[0]])):
        with pytest.raises(EvidenceError, match="exactly once each"):
            machine_io.verity_roots(wrong)
