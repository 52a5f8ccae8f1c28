"""Parts of the azure driver that need no cloud, no terraform and no Azurite."""

import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.errors import AicertError, ConfigError, ToolError
from rules.machines.azure import costs, errors, machine
from rules.machines.azure import vhd as azure_vhd
from rules.machines.azure.console import ConsoleStream, Signs
from rules.machines.machine import DRIVERS, Job, Machine
from tests.oracles import environment

GIB = 1 << 30
# Messages of Azure, Entra and the provider, as their documentation quotes them.
SAID = [
    ("building account: could not configure AzureCli Authorizer: please run 'az login'",
     ConfigError, "no credentials"),
    ("unable to build authorizer: AADSTS700082: The refresh token has expired",
     ToolError, "login to Azure has expired"),
    ("`subscription_id` is a required provider property when performing a plan/apply",
     ConfigError, "no subscription"),
    ("StorageAccountAlreadyTaken: The storage account named x is already taken",
     ToolError, "name chosen for this run is already taken"),
    ("MissingSubscriptionRegistration: not registered to use 'Microsoft.Storage'",
     ConfigError, "not registered"),
    ("RequestDisallowedByPolicy: Resource 'x' was disallowed by policy",
     ToolError, "policy of the subscription"),
    ("OperationNotAllowed: exceeding approved standardNCADSH100v5Family Cores quota",
     ToolError, "no quota"),
    ("SkuNotAvailable: The requested VM size is currently not available in location",
     ConfigError, "region does not offer this size"),
    ("AllocationFailed: Allocation failed. We do not have sufficient capacity",
     ToolError, "no free machine"),
    ("something that nobody foresaw", ToolError, "something that nobody foresaw"),
    ("AuthorizationFailed: The client does not have authorization to perform action",
     ConfigError, "login is not allowed to create"),
]  # fmt: skip


@pytest.mark.parametrize(("azure_error", "kind", "words"), SAID)
def test_what_azure_says_in_one_line(azure_error: str, kind: type[AicertError], words: str) -> None:
    error = errors.explain("apply", f"Error: creating\n\n{azure_error}\n\n  with x", Path("log"))
    assert isinstance(error, kind)
    assert words in error.message
    assert azure_error.split(maxsplit=1)[0] in error.message
    assert error.hint


# One size in each class of the specification's calculation, and at its edges.
SIZES = [1 << 20, 68 << 20, 69 << 20, 504 << 20, 505 << 20, GIB, 8 * GIB, 127 * GIB, 200 * GIB]


@pytest.mark.parametrize("size", SIZES)
def test_footer_field_by_field(size: int) -> None:
    """Parse the footer independently, by offset, as in the specification's table."""
    footer = azure_vhd.footer(size, uuid.UUID(int=7))
    assert len(footer) == 512
    assert footer[0:8] == b"conectix"
    assert footer[8:16] == bytes.fromhex("0000000200010000")
    assert footer[16:24] == b"\xff" * 8
    assert struct.unpack(">QQ", footer[40:56]) == (size, size)
    cylinders, heads, sectors = struct.unpack(">HBB", footer[56:60])
    # The geometry rounds down by less than a cylinder, up to its maximum.
    blocks = min(size // 512, 65535 * 16 * 255)
    assert blocks - heads * sectors < cylinders * heads * sectors <= blocks
    assert struct.unpack(">I", footer[60:64]) == (2,)
    rest = footer[:64] + bytes(4) + footer[68:]
    assert struct.unpack(">I", footer[64:68])[0] == ~sum(rest) & 0xFFFFFFFF
    assert footer[68:84] == uuid.UUID(int=7).bytes
    assert not any(footer[84:])


def test_other_readers_see_the_same_disk(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"begin" + bytes(3 << 20) + b"end")
    vhd = azure_vhd.of_file(raw)
    with raw.open("rb") as file, (tmp_path / "disk.vhd").open("wb") as target:
        target.truncate(vhd.disk)
        for at, size in vhd.chunks():
            target.seek(at)
            target.write(vhd.read(file, at, size))
    assert (tmp_path / "disk.vhd").stat().st_size == vhd.size == (4 << 20) + 512
    code = """
import sys
from dissect.hypervisor.disk.vhd import VHD
with open(sys.argv[1], "rb") as file:
    disk = VHD(file)
    print(disk.size, disk.read(5), type(disk.disk).__name__)
"""
    done = environment.run(
        code, tmp_path / "disk.vhd", interpreter=environment.python(environment.AZURE, "azure")
    )
    assert done.stdout.strip() == f"{4 << 20} b'begin' FixedDisk", done.stderr


@pytest.mark.parametrize("blocks", [1, 5, GIB // 4096 - 1, GIB // 4096, GIB // 4096 + 1])
def test_widened_volume_keeps_its_last_block_last(tmp_path: Path, blocks: int) -> None:
    volume = tmp_path / "volume"
    with volume.open("wb") as file:
        file.truncate((blocks - 1) * 4096)
        file.write(b"data") if blocks > 1 else None
        file.seek((blocks - 1) * 4096)
        file.write(b"trailer".ljust(4096, b"\0"))
    azure_vhd.widen(volume, 4096)
    size = volume.stat().st_size
    assert size % GIB == 0
    assert size - GIB < blocks * 4096 <= size
    with volume.open("rb") as file:
        file.seek(size - 4096)
        assert file.read().rstrip(b"\0") == b"trailer"
        file.seek(max(blocks - 1, 0) * 4096)
        if (blocks * 4096) != size:
            # There is a hole where the trailer was before.
            assert not any(file.read(4096))


def console(*parts: bytes) -> Callable[[], bytes]:
    left = list(parts)
    return lambda: left.pop(0) if left else b""


def test_console_ends_with_the_machine() -> None:
    stream = ConsoleStream(
        console(
            b"boot\r\n{\"event\"", b"", b": 1}\r\n\x1b[2Jwords\nreboot: Power down", b"\nmore\n"
        ),
        boot_s=5, limit_s=5, look_s=0,
    )  # fmt: skip
    lines = []
    while line := stream.readline():
        lines.append(line)
    assert lines == [b"boot\r\n", b'{"event": 1}\r\n', b"\x1b[2Jwords\n", b"reboot: Power down\n"]
    assert stream.tail() == "boot\nwords\nreboot: Power down"


def test_console_line_without_an_end_is_cut() -> None:
    stream = ConsoleStream(console(b"x" * 9000 + b"\nreboot: Power down\n"), boot_s=5, limit_s=5)
    assert len(stream.readline(4096)) == 4096
    assert len(stream.readline(4096)) == 4096
    assert stream.readline(4096) == b"x" * 808 + b"\n"


@pytest.mark.parametrize(("text", "words"), [(b"", "did not boot"), (b"a\n", "did not finish")])
def test_console_that_stands_still(text: bytes, words: str) -> None:
    stream = ConsoleStream(console(text), boot_s=0, limit_s=0, look_s=0)
    with pytest.raises(ToolError, match=words):
        while stream.readline():
            pass


def test_console_of_a_machine_that_went_off_without_a_word() -> None:
    asked: list[int] = []

    def is_off() -> bool:
        asked.append(1)
        return len(asked) == 2

    stream = ConsoleStream(
        console(b"a\n", b"", b"", b"last\nwords"), boot_s=9, limit_s=9, look_s=0, is_off=is_off,
        ask_s=0,
    )  # fmt: skip
    assert [stream.readline(), stream.readline(), stream.readline()] == [b"a\n", b"last\n", b""]
    assert len(asked) == 2


def test_signs_of_a_machine_that_says_that_it_powers_off() -> None:
    def is_off() -> bool:
        raise AssertionError("nobody needs to ask")

    signs = Signs(
        console(b"boot\r\n\x1b[2Jwo", b"rds\nreboot: Pow", b"", b"er down\n"), is_off=is_off
    )
    assert not signs.has_ended()
    assert signs.last_lines() == "boot\nwords\nreboot: Power down"
    assert signs.has_ended()


def test_signs_of_a_machine_that_went_off_without_a_word() -> None:
    looks = iter([False, True])

    def more() -> bytes:
        raise ToolError("the machine's console cannot be read")

    signs = Signs(more, is_off=lambda: next(looks), ask_s=0)
    # Nobody asks again once it is known.
    assert [signs.has_ended(), signs.has_ended(), signs.has_ended()] == [False, True, True]
    assert signs.last_lines() == ""


def test_costs_are_said_before_and_after() -> None:
    known = costs.of("Standard_NC40ads_H100_v5", None)
    assert "at most 8.73 for 1 h 15 min" in known.before(3600)
    assert "about 6.98" in known.after(3600)
    own = costs.of("Standard_NC40ads_H100_v5", 2.0)
    assert "2.00 an hour (hourly-price in aicert.toml)" in own.before(3600)
    assert "price unknown" in costs.of("Standard_X", None).before(3600)


def test_without_terraform_no_image_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A build would find no image lock here, and report that.
    monkeypatch.setenv("PATH", str(tmp_path))
    driver = DRIVERS["azure"]
    cloud = Machine(
        name="cloud", driver=driver, memory=GIB, scratch=GIB, time_limit=60, processes=1, cpus=None
    )
    job = Job(
        root=tmp_path, run="r", machine=cloud, lockfile=b"", inputs={}, nonce=bytes(32),
        training_env=None, work=tmp_path,
    )  # fmt: skip
    with pytest.raises(ToolError, match="terraform is not installed"):
        machine.execute(job)
