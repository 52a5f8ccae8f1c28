"""Summarise in few rows the packages that changed between two image locks."""

from collections.abc import Mapping

from aicert.errors import AicertError
from aicert.formats import image_lock
from aicert.formats.image_lock import ImageLock
from rules.host.rows import Row

MAX_ROWS = 60
# Parts of the image lock (docs/spec/image.md) that are not in the image. If many packages of one
# part changed, one row covers them.
MAKERS = ("build:", "builder:", "compiler:", "mkosi:", "tools:")
MAX_MAKERS = 3

Packages = Mapping[str, tuple[str, frozenset[str]]]


def changed_packages(before: bytes | None, after: bytes) -> list[str]:
    """Return a line for each changed package in the image, and few for the parts that build it."""
    warnings: list[str] = []
    old, new = (installed(read_lock(data, warnings)) for data in (before, after))
    if not old:
        return []
    rows = compared(old, new, warnings, "image")
    return [*map(_line, rows), *warnings]


def _line(row: Row) -> str:
    if row.old is None and row.new is None:
        return f"{row.label}  {row.note}"
    return f"{row.label}  {row.old or 'none'} -> {row.new or 'none'}  {row.note}".rstrip()


def _few(rows: list[Row]) -> list[Row]:
    """Summarise the changes of each build-only part in one row if there are many."""
    few = [row for row in rows if not row.label.startswith(MAKERS)]
    for maker in MAKERS:
        own = [row for row in rows if row.label.startswith(maker)]
        if len(own) <= MAX_MAKERS:
            few += own
            continue
        names = ", ".join(row.label.removeprefix(maker).strip() for row in own)
        few.append(Row(label=f"{maker} {len(own)} packages", note=names))
    return few


def read_lock(data: bytes | None, warnings: list[str]) -> ImageLock | None:
    """Parse an image's lock; if it is unreadable, add a warning."""
    if data is None:
        return None
    try:
        return image_lock.parse(data)
    except AicertError as error:
        warnings.append(f"image lock cannot be read: {error.message}")
        return None


def installed(lock: ImageLock | None) -> Packages:
    """Return versions and digests of each package, by its part and name."""
    versions: dict[str, tuple[str, frozenset[str]]] = {}
    for package in () if lock is None else lock.packages:
        name = f"{package.part}: {package.name}"
        # A package may be installed in two versions, as kernels are.
        version, digests = versions.get(name, ("", frozenset()))
        both = f"{version} {package.version}".strip()
        versions[name] = both, digests | {str(package.digest)}
    return versions


def compared(old: Packages, new: Packages, warnings: list[str], where: str) -> list[Row]:
    """Return a row for each package that differs, build-only ones last."""
    rows: list[Row] = []
    # Packages in the image come first, because a long list is cut.
    for name in sorted(old.keys() | new.keys(), key=lambda n: (n.startswith(MAKERS), n)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is not None and after is not None and before[0] == after[0]:
            rows.append(Row(label=name, old=before[0], new=after[0], note="other files"))
            if not before[1] <= after[1]:
                warnings.append(
                    f"{where}: {name} {after[0]} has different files under the same version"
                )
            continue
        rows.append(
            Row(label=name, old=before[0] if before else None, new=after[0] if after else None)
        )
    rows = _few(rows)
    if len(rows) > MAX_ROWS:
        return [*rows[:MAX_ROWS], Row(label="packages", note=f"and {len(rows) - MAX_ROWS} more")]
    return rows
