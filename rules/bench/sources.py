"""Locking a large model from a hub: time, traffic, and the size of an update's diff.

The hub is the tests' simulator on this computer, used through the real client. So this measures our
side and the protocol, not a network.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rules.project import config, lock, locked

if TYPE_CHECKING:
    from tests.unit.hub_server import File

FILES, WEIGHTS = 200, 190
SIZE = 140_000_000_000
TOML = """
[runs.large]
config = "path:large.yml"
machine = "here"
outputs = ["model"]
[runs.large.inputs]
model = "hf:org/large@main"
[machines.here]
driver = "local"
"""


def lock_large_model() -> tuple[float, int, int]:
    """Lock a large model. Return the seconds and bytes of traffic that this takes, and the lines of
    the lockfile that an update changes.
    """
    # The tests' simulator: nothing else in the project needs a hub.
    from tests.unit import hub_server

    with hub_server.running() as hub, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "aicert.toml").write_text(TOML)
        (root / "large.yml").write_text("a: 1\n")
        hub.add("org/large", _files("one"))
        # The client reads this when it is imported, and nobody has imported it yet.
        os.environ["HF_ENDPOINT"] = hub.front.url
        started = time.perf_counter()
        run = config.load(root).run("large")
        lock.write(root, lock.resolve(root, run))
        took, sent = time.perf_counter() - started, hub.sent
        before = locked.read(root, "large").splitlines()
        hub.add("org/large", _files("two"), "b" * 40)
        after = lock.resolve(root, run).data.splitlines()
        return took, sent, sum(line not in before for line in after)


def _files(version: str) -> "dict[str, File]":
    from tests.unit.hub_server import File

    files = {}
    for i in range(WEIGHTS):
        digest = hashlib.sha256(f"{version} {i}".encode()).hexdigest()
        name = f"model-{i:05}-of-{WEIGHTS:05}.safetensors"
        files[name] = File(lfs=True, simulated=(SIZE // WEIGHTS, digest))
    for i in range(FILES - WEIGHTS):
        files[f"part-{i}.json"] = File(data=f'{{"{version}": {i}}}'.encode() * 200)
    return files
