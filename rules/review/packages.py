"""Packages of the machine's image and of the training environment, as two revisions lock them."""

import re
from collections.abc import Mapping

from aicert.errors import AicertError
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import ImageLock
from rules.review.revisions import Files
from rules.review.rows import Row, Section, moved

IMAGE = "lockfiles/image.lock.toml"
IMAGES = (IMAGE, "lockfiles/image-gpu.lock.toml")
TRAINING = ("enclave_runner/requirements.lock", "enclave_runner/requirements-cuda.lock")
MAX_ROWS = 60
# Parts of the image lock (docs/spec/image.md) that are not in the image; of many packages of one
# that moved, one row tells all.
MAKERS = ("build:", "builder:", "compiler:", "mkosi:", "tools:")
MAX_MAKERS = 3
_PIN = re.compile(
    r"^([A-Za-z0-9][\w.-]*)==(\S+)((?:[ \\\n]+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE
)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")

Packages = Mapping[str, tuple[str, frozenset[str]]]


def training_section(base: Files, head: Files, warnings: list[str]) -> Section | None:
    """What changed in the locks of the training environment."""
    old, new = _training(base, []), _training(head, warnings)
    rows = _rows(old, new, warnings, "training environment")
    same = [base.read(path) == head.read(path) for path in TRAINING]
    if all(same):
        return None
    rows = rows or [Row(label="packages", note="none differs; the locks' other text does")]
    return Section(title="training environment", word="changed", rows=tuple(rows))


def image_section(
    base: Files, head: Files, warnings: list[str], path: str = IMAGE
) -> Section | None:
    """What changed in a lock of the machine's image."""
    before, after = base.read(path), head.read(path)
    if before == after:
        return None
    old, new = (_image(data, warnings) for data in (before, after))
    name = path.rpartition("/")[2]
    rows = moved(name, *(None if d is None else str(of_bytes(d)) for d in (before, after)))
    for index in image_lock.PCRS:
        rows += moved(
            f"PCR {index}", *(None if i is None else i.pcrs[index].hex() for i in (old, new))
        )
    rows += moved("disk", *(None if i is None else str(i.disk) for i in (old, new)))
    roots = [{} if i is None else {name: str(root) for name, root in i.verity.items()}
             for i in (old, new)]  # fmt: skip
    for name in sorted(roots[0].keys() | roots[1].keys()):
        rows += moved(f"dm-verity root of {name}", roots[0].get(name), roots[1].get(name))
    rows += _rows(_installed(old), _installed(new), warnings, "image")
    word = "new" if before is None else "removed" if after is None else "changed"
    title = "machine image" if path == IMAGE else "machine image with GPUs"
    return Section(title=title, word=word, rows=tuple(rows))


def moved_packages(before: bytes | None, after: bytes) -> list[str]:
    """One line for each package in the image that moved, and one for each part that makes it."""
    warnings: list[str] = []
    old, new = (_installed(_image(data, warnings)) for data in (before, after))
    if not old:
        return []
    rows = _rows(old, new, warnings, "image")
    return [*map(_line, rows), *warnings]


def _line(row: Row) -> str:
    if row.old is None and row.new is None:
        return f"{row.label}  {row.note}"
    return f"{row.label}  {row.old or 'none'} -> {row.new or 'none'}  {row.note}".rstrip()


def _few(rows: list[Row]) -> list[Row]:
    """Of each part that only makes the image, what moved in one row where it is much."""
    found = [row for row in rows if not row.label.startswith(MAKERS)]
    for maker in MAKERS:
        own = [row for row in rows if row.label.startswith(maker)]
        if len(own) <= MAX_MAKERS:
            found += own
            continue
        names = ", ".join(row.label.removeprefix(maker).strip() for row in own)
        found.append(Row(label=f"{maker} {len(own)} packages", note=names))
    return found


def _image(data: bytes | None, warnings: list[str]) -> ImageLock | None:
    if data is None:
        return None
    try:
        return image_lock.parse(data)
    except AicertError as error:
        warnings.append(f"image lock cannot be read: {error.message}")
        return None


def _installed(lock: ImageLock | None) -> Packages:
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for package in () if lock is None else lock.packages:
        name = f"{package.part}: {package.name}"
        # One name may be installed in two versions (kernels are).
        version, digests = found.get(name, ("", frozenset()))
        both = f"{version} {package.version}".strip()
        found[name] = both, digests | {str(package.digest)}
    return found


def _training(files: Files, warnings: list[str]) -> Packages:
    """Every pin. What is none is told, for pip would follow it: an address, an index, an option."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for path in TRAINING:
        text = (files.read(path) or b"").decode("utf-8", "replace")
        for match in _PIN.finditer(text):
            name = match[1]
            # A second pin must not hide what became of the first.
            while name in found:
                name += " (again)"
            found[name] = match[2], frozenset(_HASH.findall(match[3]))
        lines = (line.strip() for line in _PIN.sub("", text).splitlines())
        strange = [line for line in lines if line and not line.startswith("#")]
        warnings += [f"{path} has a line that locks no package: {line}" for line in strange[:5]]
    return found


def _rows(old: Packages, new: Packages, warnings: list[str], where: str) -> list[Row]:
    rows: list[Row] = []
    # What is in the image before what only made it: a long list is cut.
    for name in sorted(old.keys() | new.keys(), key=lambda n: (n.startswith(MAKERS), n)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is not None and after is not None and before[0] == after[0]:
            rows.append(Row(label=name, old=before[0], new=after[0], note="other files"))
            if not before[1] <= after[1]:
                warnings.append(
                    f"{where}: {name} {after[0]} has other files under the same version"
                )
            continue
        rows.append(
            Row(label=name, old=before[0] if before else None, new=after[0] if after else None)
        )
    rows = _few(rows)
    if len(rows) > MAX_ROWS:
        return [*rows[:MAX_ROWS], Row(label="packages", note=f"and {len(rows) - MAX_ROWS} more")]
    return rows
