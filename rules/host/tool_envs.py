"""Make the folders of packages that some trainers have besides the training environment's.

Each trainer in `machine_io.TOOLS` has a hashed lock in its room. Its packages lie in a folder of
their own, which only the trainer's child sees, before the environment on its path; so versions may
differ from the environment's and from other trainers'. A measured machine has such folders in its
image (rules/image/tools.py); for a `local` machine this module makes one when a run first names the
trainer.
"""

import hashlib
import re
import shutil
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats.machine_io import TOOLS
from rules.host import hardening, installer, progress, room, training_env
from rules.host.bootstrap import cache_directory
from rules.host.places import CODE

_MARKER = "complete"
# None of them takes more.
_SIZE = room.GB // 2
# Left out: definitions of tasks, which run code and are no input of anybody's.
_CUTS = re.compile(r"lm_eval/tasks/[^/]+/.*")


def lock(trainer: str) -> Path:
    """Return the hashed lock of a trainer's own packages."""
    return CODE / "enclave_runner" / TOOLS[trainer] / "requirements.lock"


def require_open(packages: set[str], trainer: str) -> None:
    """Refuse a package that the environment has with parts removed or changed.

    A whole copy of it in the trainer's folder would come first, and bring those parts back. Raises
    ToolError.
    """
    changed = sorted(packages & _edited())
    if changed:
        raise ToolError(
            f"the lock of {trainer} names {changed[0]}, of which the training environment has an "
            "edited copy (rules/host/hardening.py)",
            hint="see docs/adr/0055-tools.md",
        )


def _edited() -> set[str]:
    """Return the names of the packages that the list changes, as locks spell them."""
    paths = [path for entry in hardening.ABSENT for path in entry.paths]
    paths += [edit.path for edit in hardening.EDITS]
    return {re.split(r"/|-\*|\.", path)[0].replace("_", "-") for path in paths}


def is_left_out(name: str) -> bool:
    """Return whether a file, named from the trainer's folder, is left out, here and in images."""
    return _CUTS.fullmatch(name) is not None


def location(root: Path, trainer: str) -> Path:
    """Return the folder that holds the trainer's folder, whether it exists or not."""
    facts = lock(trainer).read_bytes() + b"\0" + _CUTS.pattern.encode("ascii")
    digest = hashlib.sha256(facts).hexdigest()
    return cache_directory(root) / "envs" / f"tool-{trainer}-{digest[:12]}"


def ensure_shown(root: Path, trainer: str) -> Path:
    """Return the folder that holds the trainer's folder; make it if it is missing.

    This needs the training environment, whose Python installs the packages.
    """
    place = location(root, trainer)
    if (place / _MARKER).is_file():
        return place
    environment = training_env.ensure_shown(root)
    progress.say(f"installing the packages of {trainer}")
    with training_env.as_tool_errors(), installer.only_maker(place, progress.say):
        if not (place / _MARKER).is_file():
            named = installer.members(lock(trainer).read_text(encoding="ascii"))
            require_open(set(named), trainer)
            room.require(place, _SIZE, f"the folder for the packages of {trainer}")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            python = training_env.python(environment)
            folder = place / trainer
            installer.install(python, lock(trainer), target=folder)
            for path in [path for path in folder.rglob("*") if path.is_file()]:
                if is_left_out(path.relative_to(folder).as_posix()):
                    path.unlink()
            (place / _MARKER).touch()
    return place
