"""Unpack the packages of trainers that have their own, for the tools image.

The training volume is that of the base image, with the same bytes. Each trainer's packages are in a
folder of their own in the root volume (docs/adr/0055-tools.md), which the runner shows only to that
trainer's child.
"""

from collections.abc import Sequence
from pathlib import Path

from aicert.formats.image_lock import Package
from aicert.formats.machine_io import TOOLS, TOOLS_PLACE
from rules.host.tool_envs import is_left_out
from rules.image.debian import Store
from rules.image.unpack import settle, unpack

# Parts of the lock: the trainers, by name.
PARTS = tuple(sorted(TOOLS))
PLACE = Path(TOOLS_PLACE).relative_to("/")


def unpack_all(store: Store, packages: Sequence[Package], target: Path) -> None:
    """Unpack each trainer's packages below `target`, in its folder in the machine."""
    for package in packages:
        if package.part in PARTS:
            folder = target / PLACE / package.part
            folder.mkdir(parents=True, exist_ok=True)
            unpack(package, store.get(package), folder, is_left_out)
    settle(target)
