"""Get the packages that build an image but are not in it: as locked or, if one is gone, today's.

Tools need not have the locked bytes, as long as they produce the locked image. An image built with
other tools is compared with the lock: it either matches exactly, or is refused with the tools'
names. Whatever is in the machine or is measured at boot is never replaced, even if it comes with
the tools.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats.digest import Digest
from aicert.formats.image_lock import Package
from rules.host import progress
from rules.image import debian as image_debian
from rules.image import sources
from rules.image import wheels as image_wheels
from rules.image.debian import Apt
from rules.image.place import Place
from rules.image.sources import AllGoneError

# systemd's stub is the start of the kernel image, and firmware is measured.
STUB_PACKAGE = "systemd-boot-efi"
KEPT = (STUB_PACKAGE, "ovmf")
_SHOWN = 12
_MOVES_ON = "./doit image_update    # locks today's packages, in minutes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parts of a lock that are replaced together, because their versions have to match."""

    debian: tuple[str, ...]
    wheels: tuple[str, ...] = ()

    def of(self, packages: Sequence[Package]) -> tuple[list[Package], list[Package]]:
        """Return the group's Debian packages and its Python packages that may be replaced."""
        own = [each for each in packages if each.name not in KEPT]
        return (
            [each for each in own if each.part in self.debian],
            [each for each in own if each.part in self.wheels],
        )


TOOLS = Group(debian=("mkosi", "tools"))
BUILDERS = Group(debian=("build",), wheels=("builder",))
COMPILER = Group(debian=("compiler",))


def settle(
    where: Place,
    packages: tuple[Package, ...],
    group: Group,
    apt: Callable[[], Apt],
    is_built: Callable[[tuple[Package, ...]], bool],
) -> tuple[Package, ...]:
    """Get the packages of `group` into the store, and return `packages` with them.

    If a locked package is gone, today's versions replace the group's. `is_built`: tells whether a
    layer of such packages exists; then nothing is fetched.
    """
    if is_built(packages):
        return packages
    debs, wheels = group.of(packages)
    known = where.cache / f"others-{_key([*debs, *wheels])}.json"
    others = _with(packages, _read(known))
    if others != packages and is_built(others):
        return others
    if not where.makes:
        return packages
    gone: list[Package] = []
    try:
        sources.debian(where, apt(), debs)
    except AllGoneError as error:
        gone += [each.package for each in error.missing]
    try:
        sources.wheels(where, wheels)
    except AllGoneError as error:
        gone += [each.package for each in error.missing]
    if not gone:
        return packages
    progress.say(
        f"locked tools are no longer available: {_names(gone)}; today's versions replace them"
    )
    new = _today(where, group, apt, debs, wheels, gone)
    _write(known, new)
    return _with(packages, new)


def _today(
    where: Place,
    group: Group,
    apt: Callable[[], Apt],
    debs: list[Package],
    wheels: list[Package],
    gone: list[Package],
) -> list[Package]:
    try:
        new: list[Package] = []
        if not set(gone).isdisjoint(debs):
            new += image_debian.newest(where.store, apt(), debs)
        if not set(gone).isdisjoint(wheels):
            wanted = image_wheels.wanted(where.code)
            own = {part: wanted[part] for part in group.wheels}
            new += image_wheels.resolve(where.store, own, where.cache / "wheels-work")
    except ToolError as error:
        raise ToolError(
            f"locked tools are no longer available, nor are replacements\n{error.message}",
            hint="./doit image_update",
        ) from None
    return new


def replaced(
    locked: Sequence[Package], used: Sequence[Package]
) -> tuple[tuple[Package, Package], ...]:
    """Return pairs of locked tools and their replacements."""
    by_name = {(each.part, each.name): each for each in used}
    pairs = ((each, by_name.get((each.part, each.name), each)) for each in locked)
    return tuple((old, new) for old, new in pairs if old.digest != new.digest)


def judge(
    pairs: Sequence[tuple[Package, Package]], locked: bytes, built: bytes, path: Path
) -> None:
    """Report that replaced tools built the locked image.

    Raises ToolError with their versions if they did not.
    """
    if not pairs:
        return
    if locked == built:
        progress.say(
            f"{len(pairs)} of the tools differ from the locked ones, but the image is "
            "the locked one, byte for byte"
        )
        return
    message = (
        f"tools in {path} are no longer available, and others do not build the locked image "
        "(perhaps the code here differs as well)"
    )
    raise ToolError("\n".join([message, *_versions(pairs)]), hint=_MOVES_ON)


def explained(error: ToolError, pairs: Sequence[tuple[Package, Package]]) -> ToolError:
    """Return a build error that also names the tools that differ from the locked ones."""
    if not pairs or isinstance(error, AllGoneError):
        return error
    reason = "locked tools are no longer available, and the build failed with their replacements"
    return ToolError("\n".join([error.message, reason, *_versions(pairs)]), hint=_MOVES_ON)


def _versions(pairs: Sequence[tuple[Package, Package]]) -> list[str]:
    lines = [f"  {old.part}: {old.name} {old.version}, used {new.version}" for old, new in pairs]
    return [*lines[:_SHOWN], *([f"  and {len(lines) - _SHOWN} more"] if lines[_SHOWN:] else [])]


def _with(packages: tuple[Package, ...], new: Sequence[Package]) -> tuple[Package, ...]:
    by_name = {(each.part, each.name): each for each in new}
    return tuple(by_name.get((each.part, each.name), each) for each in packages)


def _names(packages: Sequence[Package]) -> str:
    named = [f"{each.name} {each.version}" for each in packages]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return ", ".join(named[:3]) + more


def _key(packages: Sequence[Package]) -> str:
    return hashlib.sha256("\n".join(map(str, packages)).encode()).hexdigest()[:16]


def _read(path: Path) -> list[Package]:
    try:
        rows = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    return [
        Package(part=part, name=name, version=version, digest=Digest.parse(digest))
        for part, name, version, digest in rows
    ]


def _write(path: Path, packages: Sequence[Package]) -> None:
    rows = [(each.part, each.name, each.version, str(each.digest)) for each in packages]
    path.write_text(json.dumps(rows), encoding="utf-8")
