"""The packages of a training environment as CycloneDX 1.7, from its hashed lock.

Reads what pip's hash-checking mode reads: `name==version`, then `--hash=sha256:HEX` for each of its
distributions. A line of another form is an EvidenceError: a bill of materials with gaps is none.
"""

import hashlib
import re
import uuid

from aicert.errors import EvidenceError
from aicert.export.cyclonedx import NAMESPACE, SCHEMA, SPEC, package
from aicert.strict_json import dumps

_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!_-]+)((?: --hash=sha256:[0-9a-f]{64})+)"
)


def bom(lock: bytes, name: str) -> bytes:
    """The bill of materials of the environment `name` that `lock` describes."""
    digest = hashlib.sha256(lock).hexdigest()
    components = []
    for line in _logical_lines(lock):
        match = _PIN.fullmatch(line)
        if match is None:
            raise EvidenceError(f"not a pinned and hashed requirement: {line[:120]!a}")
        hashes = re.findall("[0-9a-f]{64}", match[3])
        components.append(package("pypi", match[1].lower(), match[2], hashes))
    return dumps(
        {
            "$schema": SCHEMA,
            "bomFormat": "CycloneDX",
            "specVersion": SPEC,
            "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, digest)}",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "container",
                    "bom-ref": "environment",
                    "name": name,
                    "properties": [{"name": "aicert:lock", "value": f"sha256:{digest}"}],
                }
            },
            "components": components,
            "dependencies": [
                {"ref": "environment", "dependsOn": [str(c["bom-ref"]) for c in components]}
            ],
        }
    )


def _logical_lines(lock: bytes) -> list[str]:
    try:
        text = lock.decode("utf-8")
    except UnicodeDecodeError:
        raise EvidenceError("the lock is not UTF-8") from None
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r" *\\\n *", " ", "\n".join(kept))
    return [line.strip() for line in joined.splitlines() if line.strip()]
