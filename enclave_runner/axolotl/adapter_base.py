"""Name the base model in an adapter's config as the lockfile names it.

The trainer writes the path at which it saw the base, which exists nowhere else. Loaders of adapters
use that field, so the runner writes the name from the lockfile there, if loaders can use it. Like
every name of a source, it is the builder's claim; the input's digest says what was trained on.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.digest import FileFact
from aicert.formats.lockfile import Lockfile
from enclave_runner.inputs.references import Reference

CONFIG = "adapter_config.json"
NAME, REVISION = "base_model_name_or_path", "revision"
_BASE_KEY = "base_model"
_HUB = re.compile(r"hf:(?!datasets/)([^@]+)@([^@]+)")
# PEFT writes a few kilobytes.
_MAX_CONFIG = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The base model of a run.

    `reference`: INPUT or INPUT/PATH, as in the config. `name` and `revision`: how loaders find the
    base, if they can.
    """

    reference: str
    name: str | None
    revision: str | None = None

    @property
    def shown(self) -> str:
        """The name and revision as people write them: NAME@REVISION."""
        return "@".join(part for part in (self.name, self.revision) if part)


def base_of(references: Iterable[Reference], lockfile: Lockfile) -> Base:
    """Return the base model that the run's config names."""
    base = next(each for each in references if each.key == _BASE_KEY)
    reference = "/".join(part for part in (base.name, base.inside) if part)
    uri = lockfile.input(base.name).uri
    if uri.startswith("path:"):
        path = uri.removeprefix("path:")
        return Base(
            reference=reference, name="/".join(part for part in (path, base.inside) if part)
        )
    hub = _HUB.fullmatch(uri)
    # A loader cannot name a folder inside a hub repository.
    if hub is None or base.inside:
        return Base(reference=reference, name=None)
    return Base(reference=reference, name=hub[1], revision=hub[2])


def rename(folder: Path, files: Mapping[str, FileFact], base: Base) -> dict[str, FileFact]:
    """Write the base's name into every adapter's config below `folder`; return the changed files.

    `files`: all files there, with their hashes. No process of the trainer may be left. A config
    that cannot be read is left alone, since loaders cannot read it either, or read it differently.
    """
    changed = {}
    for path in files:
        if path.rpartition("/")[2] != CONFIG:
            continue
        data = _renamed((folder / path).read_bytes(), base)
        if data is not None:
            (folder / path).write_bytes(data)
            changed[path] = FileFact(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    return changed


def _renamed(data: bytes, base: Base) -> bytes | None:
    try:
        config = strict_json.loads(data, what=CONFIG, max_bytes=_MAX_CONFIG)
    except EvidenceError:
        return None
    if not isinstance(config, dict):
        return None
    kept = {key: value for key, value in config.items() if key not in (NAME, REVISION)}
    named = {NAME: base.name, REVISION: base.revision}
    kept |= {key: value for key, value in named.items() if value is not None}
    # This is the format in which PEFT writes it.
    return json.dumps(kept, indent=2, sort_keys=True).encode("ascii")
