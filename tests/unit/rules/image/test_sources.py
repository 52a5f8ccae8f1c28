"""Locked bytes are taken from the store, DVC, the mirror and a snapshot archive, in this order.

The mirror and the archive are real repositories behind a real apt, with two files in them.
"""

import datetime
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from aicert.errors import ConfigError, ToolError
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import Package
from rules.image import debian, makers, sources
from rules.image.debian import Apt, Store
from rules.image.makers import Group
from rules.image.place import LOCK, Place
from rules.image.sources import AllGoneError
from tests.unit.servers import Reply, Request, Site, site

RELEASE = "bookworm"
TIME, NEXT = "20261120T120000Z", "20261121T120000Z"
DAY = int(datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC).timestamp())
TOOLS = Group(debian=("tools",))


@dataclass(frozen=True, kw_only=True)
class World:
    """A checkout, a mirror at `/mirror`, and the contents of a snapshot archive by time."""

    where: Place
    folder: Path
    server: Site

    def package(self, name: str, version: str, part: str = "machine") -> Package:
        """Make a package that no server offers yet."""
        tree = self.folder / "make" / f"{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: m\n"
            "Description: d\n"
        )
        file = self.folder / "made" / f"{name}_{version}_amd64.deb"
        file.parent.mkdir(exist_ok=True)
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(DAY)}
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(file)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return Package(part=part, name=name, version=version, digest=of_bytes(file.read_bytes()))

    def offer(self, place: str, *packages: Package, suite: str = RELEASE) -> None:
        """Let the server offer the packages at `place`."""
        store = Store(folder=self.folder / "offered")
        for package in packages:
            file = self.folder / "made" / f"{package.name}_{package.version}_amd64.deb"
            copy = self.folder / file.name
            copy.write_bytes(file.read_bytes())
            store.add(copy)
        target = self.folder / "served" / place.strip("/") / suite
        debian.repository(store, packages, suite, target)

    def archive(self, time: str, *packages: Package) -> None:
        """Put what the archive had at that time into the suite and its companions."""
        for place, suite in (
            (f"archive/debian/{time}", RELEASE),
            (f"archive/debian/{time}", f"{RELEASE}-updates"),
            (f"archive/debian-security/{time}", f"{RELEASE}-security"),
        ):
            self.offer(place, *(packages if suite == RELEASE else ()), suite=suite)

    def apt(self) -> Apt:
        """Return an apt that knows only the mirror."""
        given = (
            f"Types: deb\nURIs: {self.server.url}/mirror\nSuites: {RELEASE}\nComponents: main\n"
            "Architectures: amd64\nTrusted: yes\n"
        )
        return Apt(self.folder / "apt", RELEASE, given=given, patience=5)

    def lock(self, *packages: Package, snapshot: str | None = TIME) -> None:
        """Commit a lock of these packages."""
        path = self.where.root / LOCK
        path.parent.mkdir(exist_ok=True)
        data = image_lock.emit(
            name="m", disk=of_bytes(b"d"), pcrs={i: bytes(32) for i in (4, 11, 12, 13)},
            verity={}, packages=tuple(sorted(packages, key=lambda p: (p.part, p.name))),
            snapshot=snapshot,
        )  # fmt: skip
        path.write_bytes(data)

    def asked(self) -> list[str]:
        """Return which packages were requested from the server."""
        return [each.path for each in self.server.requests if each.path.endswith(".deb")]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()

    def answer(request: Request) -> Reply:
        # Each suite is a separate repository below the address.
        place, _, rest = request.path.strip("/").partition("/dists/")
        if rest:
            path = folder / "served" / place / rest.partition("/")[0] / "dists" / rest
        else:
            place, _, rest = request.path.strip("/").partition("/pool/")
            matches = (folder / "served" / place).glob(f"*/pool/{rest}")
            path = next(matches, folder / "none")
        return Reply(body=path.read_bytes()) if path.is_file() else Reply(status=404)

    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with site(answer) as server:
        monkeypatch.setenv(sources.VARIABLE, server.url)
        cache = tmp_path / "cache"
        cache.mkdir()
        yield World(where=Place(root=root, cache=cache), folder=folder, server=server)


def fetch(world: World, *packages: Package) -> None:
    sources.debian(world.where, world.apt(), packages)


def test_the_store_is_first_and_asks_nobody(world: World) -> None:
    package = world.package("libc6", "1")
    world.lock(package)
    world.where.store.add(world.folder / "made/libc6_1_amd64.deb")
    fetch(world, package)
    assert world.server.requests == []


def test_the_mirror_is_asked_before_the_archive(world: World) -> None:
    package = world.package("libc6", "1")
    world.lock(package)
    world.offer("mirror", package)
    world.archive(TIME, package)
    fetch(world, package)
    assert [path.partition("/pool/")[0] for path in world.asked()] == ["/mirror"]
    assert world.where.store.find(package.digest) is not None


def test_what_the_mirror_dropped_is_in_the_archive_of_the_locks_time_or_of_a_day_later(
    world: World,
) -> None:
    kept, dropped, late = (world.package(name, "1") for name in ("a", "b", "c"))
    world.lock(kept, dropped, late)
    world.offer("mirror", kept, world.package("b", "2"))
    world.archive(TIME, kept, dropped)
    world.archive(NEXT, late)
    fetch(world, kept, dropped, late)
    assert all(world.where.store.find(each.digest) for each in (kept, dropped, late))


def test_what_is_gone_everywhere_is_named_with_what_replaced_it_when_and_what_moves_on(
    world: World,
) -> None:
    gone, nameless, there = (world.package(name, "1") for name in ("a", "b", "c"))
    world.lock(gone, nameless, there)
    world.offer("mirror", world.package("a", "2"), there)
    world.archive(TIME, there)
    world.archive(NEXT, there)
    with pytest.raises(AllGoneError, match="gone from every source") as caught:
        fetch(world, gone, nameless, there)
    message = caught.value.message
    assert "the mirror no longer has a 1 (bookworm), which the image lock names" in message
    assert "replaced by 2, which is from 2026-11-24" in message
    assert "the mirror has no package of this name any more" in message
    assert f"they existed at {TIME}, when {LOCK} was made" in message
    asked = message.partition("asked: ")[2]
    order = [
        "the store here",
        "DVC's remote",
        "the mirror",
        f"archive {world.server.url} of {TIME}",
    ]
    assert [asked.index(source) for source in order] == sorted(map(asked.index, order))
    assert [each.package.name for each in caught.value.missing] == ["a", "b"]
    assert (caught.value.hint or "").startswith("./doit image_update")


def test_other_bytes_of_an_archive_are_refused(world: World) -> None:
    package = world.package("a", "1")
    world.lock(package)
    world.offer("mirror", world.package("a", "2"))
    world.archive(TIME, replace(package))
    other = replace(package, digest=of_bytes(b"what was locked"))
    with pytest.raises(AllGoneError, match="gone from every source"):
        fetch(world, other)
    assert world.where.store.find(other.digest) is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1", "which does not answer: E: "),
        ("", f"no snapshot archive ({sources.VARIABLE} names none)"),
    ],
)
def test_an_archive_that_cannot_be_asked_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    monkeypatch.setenv(sources.VARIABLE, address)
    package = world.package("a", "1")
    world.lock(package)
    world.offer("mirror", world.package("a", "2"))
    with pytest.raises(AllGoneError) as caught:
        fetch(world, package)
    assert words in caught.value.message


def test_a_mirror_that_does_not_answer_is_not_one_that_lost_a_package(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, dropped = world.package("a", "1"), world.package("b", "1")
    world.lock(there, dropped)
    world.archive(TIME, there)
    world.archive(NEXT)
    silent = replace(world, server=SimpleNamespace(url="http://127.0.0.1:1"))  # type: ignore[arg-type]  # an address is all that is asked of it
    with pytest.raises(ToolError, match="apt-get failed") as caught:
        fetch(silent, there, dropped)
    assert not isinstance(caught.value, AllGoneError)
    # The archive was asked nevertheless.
    fetch(silent, there)


def test_an_address_that_is_none_is_a_mistake_of_configuration(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.VARIABLE, "snapshot archive")
    package = world.package("a", "1")
    world.lock(package)
    world.offer("mirror", world.package("a", "2"))
    with pytest.raises(ConfigError, match=f"{sources.VARIABLE} is not an address"):
        fetch(world, package)


def test_a_lock_of_the_first_version_has_no_time_and_asks_no_archive(world: World) -> None:
    package = world.package("a", "1")
    world.lock(package, snapshot=None)
    world.offer("mirror", world.package("a", "2"))
    world.archive(TIME, package)
    with pytest.raises(AllGoneError):
        fetch(world, package)
    assert not any("archive" in each.path for each in world.server.requests)


def settle(
    world: World, *packages: Package, built: Mapping[tuple[Package, ...], bool] | None = None
) -> tuple[Package, ...]:
    known = built or {}
    return makers.settle(
        world.where, packages, TOOLS, world.apt, lambda candidate: known.get(candidate, False)
    )


def test_tools_that_are_gone_are_replaced_by_todays_all_together(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    gone, kept = (world.package(name, "1", "tools") for name in ("a", "b"))
    machine = world.package("c", "1")
    new = [world.package("a", "2", "tools"), world.package("b", "1", "tools")]
    world.lock(gone, kept, machine)
    world.offer("mirror", *new)
    used = settle(world, gone, kept, machine)
    assert used == (new[0], new[1], machine)
    assert all(world.where.store.find(each.digest) for each in new)
    assert "locked tools are no longer available: a 1; today's versions replace them" in (
        capfd.readouterr().err
    )
    # The image built from them is recognised again without any request.
    before = len(world.server.requests)
    makes_nothing = replace(world, where=replace(world.where, makes=False))
    assert settle(makes_nothing, gone, kept, machine, built={used: True}) == used
    assert len(world.server.requests) == before
    # The locked packages take precedence where they exist.
    locked = (gone, kept, machine)
    assert settle(world, *locked, built={locked: True, used: True}) == locked


def test_what_is_in_the_machine_is_not_replaced_though_it_comes_with_the_tools(
    world: World,
) -> None:
    for name in makers.KEPT:
        package = world.package(name, "1", "tools")
        world.lock(package)
        world.offer("mirror", world.package(name, "2", "tools"))
        assert settle(world, package) == (package,)
        assert world.where.store.find(package.digest) is None


def test_a_tool_that_nothing_can_replace_is_named(world: World) -> None:
    package = world.package("a", "1", "tools")
    world.lock(package)
    world.offer("mirror", world.package("b", "2", "tools"))
    with pytest.raises(ToolError, match="nor are replacements") as caught:
        settle(world, package)
    assert caught.value.hint == "./doit image_update"


def test_the_image_of_other_tools_is_the_locked_one_or_none(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = world.package("a", "1", "tools"), world.package("a", "2", "tools")
    same = world.package("b", "1")
    pairs = makers.replaced((old, same), (new, same))
    assert pairs == ((old, new),)
    judge = partial(makers.judge, locked=b"lock", path=LOCK)
    judge(pairs, built=b"lock")
    assert "the image is the locked one, byte for byte" in capfd.readouterr().err
    with pytest.raises(ToolError, match="do not build the locked image") as caught:
        judge(pairs, built=b"another")
    assert "  tools: a 1, used 2" in caught.value.message
    assert (caught.value.hint or "").startswith("./doit image_update")
    # With the same tools, a different image means different code, which needs a review.
    judge((), built=b"another")
    assert capfd.readouterr().err == ""
    with pytest.raises(ToolError, match="and 3 more"):
        judge(pairs * 15, built=b"another")
    # If they could not build at all, the message says whose fault that may be.
    failed = ToolError("mkosi failed")
    assert makers.explained(failed, ()) is failed
    error = makers.explained(failed, pairs)
    assert error.message.splitlines()[0] == "mkosi failed"
    assert error.message.splitlines()[-1] == "  tools: a 1, used 2"
