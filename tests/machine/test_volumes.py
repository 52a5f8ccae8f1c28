"""Hostile or failing disks: the machine stops and certifies nothing."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.formats import machine_io
from rules.host.work import remove
from rules.image import verity as image_verity
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from rules.machines import events
from rules.machines.qemu import machine
from tests.machine.conftest import Boot, Built, console
from tests.machine.erofs import hide_last
from tests.machine.nbd import Volume
from tests.machine.variants import with_reader

pytestmark = [pytest.mark.slow, pytest.mark.machine]
BLOCK = 4096


@pytest.fixture(scope="module")
def reader(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("reader")
    yield with_reader(built, folder)
    remove(folder)


@pytest.fixture
def optional(built: Built) -> bytes:
    """Return the start of a file that loaders skip if they cannot read it."""
    folder = built.checkout.root / "examples/tiny-llama"
    return (folder / "generation_config.json").read_bytes()[:40]


def flip(volume: Path, marker: bytes) -> None:
    with volume.open("r+b") as file:
        at = file.read().index(marker)
        file.seek(at)
        file.write(bytes([marker[0] ^ 1]))


def from_network(words: list[str]) -> list[str]:
    """Serve the input volume over the network, with tests.machine.nbd."""
    (at,) = (i for i, word in enumerate(words) if "file=/machine/inputs" in word)
    server = "file.driver=nbd,file.server.type=unix,file.server.path=inputs.img.sock"
    words[at] = f"id=inputs,if=none,readonly=on,format=raw,{server},werror=report,rerror=report"
    return words


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Volume]]]:
    """Yield `serve(then)`, which returns a `before` for boot; `then(volume)` is called after the
    hash pass.
    """
    served: list[Volume] = []

    def prepare(then: Callable[[Volume], None]) -> list[Volume]:
        class Arming(events.Follower):
            def _show(self, event: dict[str, object]) -> None:
                if event.get("event") == "training":
                    then(served[0])
                super()._show(event)

        monkeypatch.setattr(machine, "Follower", Arming)
        return served

    yield prepare
    for volume in served:
        volume.stop()


def test_a_byte_changed_before_the_hash_pass_stops_the_machine(
    boot: Boot, optional: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ToolError, match="wrote no results"):
        boot(before=lambda volume: flip(volume, optional))
    assert "dm-verity device corrupted" in console(tmp_path)


def test_a_byte_changed_after_the_hash_pass_stops_the_machine(
    boot: Boot, reader: Image, optional: bytes, tmp_path: Path,
    serve: Callable[..., list[Volume]],
) -> None:  # fmt: skip
    served = serve(lambda volume: flip(tmp_path / "work/inputs.img", optional))
    with pytest.raises(ToolError, match="wrote no results"):
        boot(before=lambda path: served.append(Volume(path)), edit=from_network, image=reader)
    assert "dm-verity device corrupted" in console(tmp_path)


def test_a_read_error_after_the_hash_pass_stops_the_machine(
    boot: Boot, reader: Image, optional: bytes, tmp_path: Path,
    serve: Callable[..., list[Volume]],
) -> None:  # fmt: skip
    def fail(volume: Volume) -> None:
        volume.fail_at = (tmp_path / "work/inputs.img").read_bytes().index(optional)

    served = serve(fail)
    with pytest.raises(ToolError, match="wrote no results"):
        boot(before=lambda path: served.append(Volume(path)), edit=from_network, image=reader)
    assert served[0].failed > 0
    assert "dm-verity device has I/O error" in console(tmp_path)
    assert "taken for absent" not in console(tmp_path)


def test_an_input_volume_without_its_root_hash_is_refused(boot: Boot, tmp_path: Path) -> None:
    def cut(volume: Path) -> None:
        with volume.open("r+b") as file:
            file.truncate(volume.stat().st_size - BLOCK)

    with pytest.raises(ToolError, match="does not end in its root hash"):
        boot(before=cut)


@pytest.fixture
def remake(built: Built, tmp_path: Path) -> Callable[..., None]:
    """Return `remake(volume, *words, then=…)`, which makes the input volume again, from what is in
    the stage now.
    """

    def make(volume: Path, *words: str, then: Callable[[Path], None] = lambda _: None) -> None:
        stage = tmp_path / "work/stage"
        volume.unlink()
        sandbox = Sandbox(tree=built.image.tools, readable=[stage], writable=[volume.parent])
        sandbox.run(["mkfs.erofs", "--quiet", *words, str(volume), str(stage)])
        then(volume)
        verity = image_verity.append_tree(volume)
        with volume.open("ab") as file:
            file.write(machine_io.input_trailer(verity.root.hex, verity.blocks))

    return make


def test_a_compressed_input_volume_is_refused(
    boot: Boot, remake: Callable[..., None], tmp_path: Path
) -> None:
    """A hostile host could forge its metadata, so only uncompressed volumes are mounted."""

    def compress(volume: Path) -> None:
        (tmp_path / "work/stage/lock.toml").write_bytes(b"x" * 100_000)
        remake(volume, "-zlz4")

    with pytest.raises(ToolError, match="is not a plain erofs"):
        boot(before=compress)


@pytest.mark.parametrize(
    ("files", "letters"), [(("tokenizer", "tokenizer.json"), 9), (("-", "..hidden"), 2)]
)
def test_a_folder_that_hides_a_file_is_refused(
    boot: Boot, remake: Callable[..., None], tmp_path: Path, files: tuple[str, str], letters: int
) -> None:
    """The folder lists a name twice, or `..`; loaders would open a file that nobody hashed."""

    def hide(volume: Path) -> None:
        folder = tmp_path / "work/stage/inputs/model"
        for name in files:
            (folder / name).write_text(name)
        remake(
            volume,
            "-x-1",
            then=lambda volume_image: hide_last(volume_image, "inputs/model", letters),
        )

    with pytest.raises(ToolError, match="does not list what it holds"):
        boot(before=hide)


def test_a_changed_byte_of_the_system_stops_the_machine(
    boot: Boot, image: Image, tmp_path: Path
) -> None:
    from dataclasses import replace

    disk = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=always", image.disk, disk], check=True)
    with disk.open("r+b") as file:
        # The root volume begins after the ESP; its superblock is read when it is mounted.
        file.seek((513 << 20) + 1024)
        first = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([first[0] ^ 1]))
    with pytest.raises(ToolError, match="wrote no results"):
        boot(image=replace(image, disk=disk))
    assert "dm-verity device corrupted" in console(tmp_path)


def test_a_host_disk_that_fails_is_told(boot: Boot) -> None:
    """As with a full disk, the machine's results cannot be written, and nothing is certified."""

    def failing(words: list[str]) -> list[str]:
        (at,) = (i for i, word in enumerate(words) if "file=output.img" in word)
        words[at] = words[at].replace(
            "file=output.img",
            "file.driver=blkdebug,file.image.driver=file,file.image.filename=output.img,"
            "file.inject-error.0.event=write_aio,file.inject-error.0.errno=28",
        )
        return words

    with pytest.raises(ToolError, match=r"in the machine: .*(?:No space left|Input/output error)"):
        boot(edit=failing)
