"""Get the locked bytes of an image, by digest, from the first source that has them.

The sources are, in this order, the store here, the project's DVC remote, the mirrors configured for
apt and pip, and a snapshot archive. Such an archive keeps packages that mirrors have dropped, under
the time at which they had them (as Debian's does: `ARCHIVE/archive/debian/TIME/` and
`ARCHIVE/archive/debian-security/TIME/`). The lock contains the time.
"""

import datetime
import os
import re
from collections.abc import Sequence

from aicert.errors import ConfigError, ToolError
from aicert.formats.image_lock import Package
from rules.image import debian as image_debian
from rules.image import share
from rules.image import wheels as image_wheels
from rules.image.debian import Apt, GoneError, Missing, absent
from rules.image.place import LOCK, Place, read_lock

# The variable with the archive's address; empty for none.
VARIABLE = "AICERT_SNAPSHOT_ARCHIVE"
DEFAULT = "https://snapshot.debian.org"
# How many seconds the archive may be silent: it is the last resort.
_PATIENCE = 20
_TIME = "%Y%m%dT%H%M%SZ"


class AllGoneError(GoneError):
    """Raised if no source has some locked bytes; `missing` lists them."""

    def __init__(self, message: str, missing: Sequence[Missing], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)


def now() -> str:
    """Return the time to write in a lock that is made now."""
    return datetime.datetime.now(datetime.UTC).strftime(_TIME)


def debian(where: Place, apt: Apt, packages: Sequence[Package], *, archived: bool = True) -> None:
    """Make sure that exactly these Debian packages are in the store.

    `apt`: asks the mirrors. `archived`: whether a snapshot archive has them as well. Raises
    AllGoneError if no source has a package.
    """
    if not absent(where.store, packages):
        return
    asked = ["the store here", share.bring(where, packages), f"{apt.name} ({apt.release})"]
    silent: ToolError | None = None
    try:
        missing = image_debian.obtain(where.store, apt, packages)
    except ToolError as error:
        silent = error
        missing = [Missing(package=p, reason="") for p in absent(where.store, packages)]
    for time in _times(where) if missing and archived else ():
        archive = _archive(where, apt, time)
        if archive is None:
            asked.append(f"no snapshot archive ({VARIABLE} names none)")
            break
        left = [each.package for each in missing]
        try:
            missing = _still(image_debian.obtain(where.store, archive, left), missing)
            asked.append(archive.name)
        except ToolError as error:
            asked.append(f"{archive.name}, which does not answer: {_last(error)}")
        if not missing:
            return
    if missing:
        # A mirror that does not answer says nothing about whether the package is gone.
        raise silent or _gone(where, missing, asked, apt)


def wheels(where: Place, packages: Sequence[Package]) -> None:
    """Make sure that exactly these Python packages are in the store.

    Raises AllGoneError if no source has a package.
    """
    if not absent(where.store, packages):
        return
    asked = ["the store here", share.bring(where, packages), "pip's index"]
    missing = image_wheels.obtain(where.store, packages, where.cache / "wheels-work")
    if missing:
        raise _gone(where, missing, asked, None)


def _still(left: Sequence[Missing], before: Sequence[Missing]) -> list[Missing]:
    """Return the packages of `before` that are still in `left`, with the mirror's messages.

    An archive's message says less than the mirror's.
    """
    still = {each.package for each in left}
    return [each for each in before if each.package in still]


def _times(where: Place) -> list[str]:
    """Return the times to look for in an archive: the lock's, and a day later.

    What a mirror got just before the lock was made may only be in the next snapshot.
    """
    paths = dict.fromkeys((where.lock, LOCK))
    locks = [read_lock(where.root, path) for path in paths]
    times: list[str] = []
    for lock in locks:
        if lock is not None and lock.snapshot is not None:
            day = datetime.datetime.strptime(lock.snapshot, "%Y%m%dT%H%M%S%z") + datetime.timedelta(
                days=1
            )
            times += [lock.snapshot, day.strftime(_TIME)]
    return list(dict.fromkeys(times))


def _archive(where: Place, apt: Apt, time: str) -> Apt | None:
    address = os.environ.get(VARIABLE, DEFAULT).rstrip("/")
    if not address:
        return None
    if not re.fullmatch(r"https?://[!-~]+", address):
        raise ConfigError(f"{VARIABLE} is not an address: {address!a}", hint=f"unset {VARIABLE}")
    # Digests decide, not signatures: this machine may no longer have the keys of that time.
    stanzas = (
        f"Types: deb\nURIs: {address}/archive/{name}/{time}\nSuites: {suites}\nComponents: main\n"
        "Architectures: amd64\nTrusted: yes\nCheck-Valid-Until: no\n"
        for name, suites in (
            ("debian", f"{apt.release} {apt.release}-updates"),
            ("debian-security", f"{apt.release}-security"),
        )
    )
    return Apt(
        where.cache / f"apt-{apt.release}-{time}",
        apt.release,
        given="\n".join(stanzas),
        move=apt.move,
        name=f"the snapshot archive {address} of {time}",
        patience=_PATIENCE,
    )


def _gone(
    where: Place, missing: Sequence[Missing], asked: Sequence[str], apt: Apt | None
) -> AllGoneError:
    """Return an error that says what is missing, since when, and what to do."""
    lines = ["bytes of the machine itself are gone from every source:"]
    for each in missing:
        lines.append(f"  {each.reason.splitlines()[0]}")
        lines += [f"    {line.strip()}" for line in each.reason.splitlines()[1:4]]
        if apt is not None:
            lines.append(f"    {_since(where, apt, each.package)}")
    lock = read_lock(where.root, where.lock)
    if lock is not None and lock.snapshot is not None:
        lines.append(f"they existed at {lock.snapshot}, when {where.lock} was made")
    lines.append(f"asked: {', '.join(asked)}")
    move = apt.move if apt is not None else "./doit image_update"
    return AllGoneError(
        "\n".join(lines), missing, hint=f"{move}    # locks today's packages, in minutes"
    )


def _since(where: Place, apt: Apt, package: Package) -> str:
    try:
        (path,) = apt.download([package.name])
    except ToolError:
        return f"{apt.name} has no package of this name any more"
    _, version = image_debian.describe(path)
    since = image_debian.made_on(path)
    # Keep the file, since updating the lock needs it too.
    where.store.add(path)
    return f"replaced by {version}, which is from {since}"


def _last(error: ToolError) -> str:
    lines = [line for line in error.message.splitlines() if line.startswith("E:")]
    return (lines or error.message.splitlines())[-1][:200]
