"""Packages of the machine's image and of the training environment, as locked in two revisions."""

import re

from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from rules.host.rows import Row, Section, moved
from rules.image.changed_packages import Packages, compared, installed, read_lock
from rules.review.revisions import Files

IMAGE = "lockfiles/image.lock.toml"
# The locks of images, and what a review calls each image.
TITLES = {
    IMAGE: "machine image",
    "lockfiles/image-gpu.lock.toml": "GPU image",
    "lockfiles/image-serve.lock.toml": "serving image",
    "lockfiles/image-tools.lock.toml": "tools image",
}
IMAGES = tuple(TITLES)
TRAINING = tuple(f"enclave_runner/requirements{each}.lock" for each in ("", "-cuda", "-kernels"))
_PIN = re.compile(
    r"^([A-Za-z0-9][\w.-]*)==(\S+)((?:[ \\\n]+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE
)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def training_section(base: Files, head: Files, warnings: list[str]) -> Section | None:
    """Return what changed in the locks of the training environment."""
    old, new = _training(base, []), _training(head, warnings)
    rows = compared(old, new, warnings, "training environment")
    same = [base.read(path) == head.read(path) for path in TRAINING]
    if all(same):
        return None
    rows = rows or [
        Row(label="packages", note="no package differs, but other text in the locks does")
    ]
    return Section(title="training environment", word="changed", rows=tuple(rows))


def image_section(
    base: Files, head: Files, warnings: list[str], path: str = IMAGE
) -> Section | None:
    """Return what changed in a lock of the machine's image."""
    before, after = base.read(path), head.read(path)
    if before == after:
        return None
    old, new = (read_lock(data, warnings) for data in (before, after))
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
    rows += compared(installed(old), installed(new), warnings, "image")
    word = "new" if before is None else "removed" if after is None else "changed"
    return Section(title=TITLES[path], word=word, rows=tuple(rows))


def _training(files: Files, warnings: list[str]) -> Packages:
    """Return every pin. Other lines are warnings, because pip would follow them: an address, an
    index, an option.
    """
    locked: dict[str, tuple[str, frozenset[str]]] = {}
    for path in TRAINING:
        text = (files.read(path) or b"").decode("utf-8", "replace")
        for match in _PIN.finditer(text):
            name = match[1]
            # A second pin must not hide a change of the first.
            while name in locked:
                name += " (again)"
            locked[name] = match[2], frozenset(_HASH.findall(match[3]))
        lines = (line.strip() for line in _PIN.sub("", text).splitlines())
        strange = [line for line in lines if line and not line.startswith("#")]
        warnings += [
            f"{path} has a line that does not lock a package: {line}" for line in strange[:5]
        ]
    return locked
