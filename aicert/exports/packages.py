"""The packages of a training environment or a machine image as CycloneDX, from their locks.

The lock of a training environment is read as in pip's hash-checking mode: `name==version`, then
`--hash=sha256:HEX` for each distribution. A line of any other form is an EvidenceError, since a
bill of materials with gaps is worthless. From an image lock, the packages in the image are
`required`, and those that only built it are `excluded`.
"""

import hashlib
import re
import uuid

from aicert.errors import EvidenceError
from aicert.exports.cyclonedx import NAMESPACE, SPEC, Json, Version, head, package
from aicert.formats import image_lock
from aicert.formats.machine_io import TOOLS
from aicert.formats.strict_json import dumps

# Parts of an image lock: those from Python's registry, and those whose packages are in the image.
# Trainers with packages of their own are parts, and so are an engine that serves and its gateway.
BESIDE = ("engine", "gateway", *TOOLS)
WHEELS = ("builder", "runner", "training", *BESIDE)
INSIDE = ("driver", "kernel", "machine", "runner", "training", *BESIDE)
# The only part from Ubuntu's archive (ADR 12); the others are from Debian's.
UBUNTU = "driver"
_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!_-]+)((?: --hash=sha256:[0-9a-f]{64})+)"
)


def bom(lock: bytes, name: str, spec: Version = SPEC) -> bytes:
    """Return the bill of materials of the environment `name`, which `lock` describes."""
    digest = hashlib.sha256(lock).hexdigest()
    components = []
    for line in _logical_lines(lock):
        match = _PIN.fullmatch(line)
        if match is None:
            raise EvidenceError(f"not a pinned and hashed requirement: {line[:120]!a}")
        hashes = re.findall("[0-9a-f]{64}", match[3])
        components.append(package("pypi", match[1].lower(), match[2], hashes))
    subject: Json = {
        "type": "container",
        "bom-ref": "environment",
        "name": name,
        "properties": [{"name": "aicert:lock", "value": f"sha256:{digest}"}],
    }
    return _document(digest, subject, components, components, spec)


def image_bom(data: bytes, spec: Version = SPEC) -> bytes:
    """Return the bill of materials of the machine image that the image lock `data` describes."""
    lock = image_lock.parse(data)
    known = {"aicert:image-lock": str(lock.digest)}
    known |= {f"aicert:verity:{name}": str(digest) for name, digest in lock.verity.items()}
    known |= {f"aicert:pcr{index}": value.hex() for index, value in lock.pcrs.items()}
    subject: Json = {
        "type": "operating-system",
        "bom-ref": "image",
        "name": lock.name,
        "version": lock.disk.hex,
        "hashes": [{"alg": "SHA-256", "content": lock.disk.hex}],
        "properties": [{"name": name, "value": value} for name, value in known.items()],
    }
    components = [_of_image(item) for item in lock.packages]
    inside = [component for component in components if component["scope"] == "required"]
    return _document(lock.digest.hex, subject, components, inside, spec)


def _of_image(item: image_lock.Package) -> Json:
    kind = "deb/ubuntu" if item.part == UBUNTU else "deb/debian"
    kind = "pypi" if item.part in WHEELS else kind
    # A package may be in several parts; a document has it once for each of them.
    return package(kind, item.name, item.version, (item.digest.hex,)) | {
        "bom-ref": f"{item.part}/{item.name}@{item.version}",
        "scope": "required" if item.part in INSIDE else "excluded",
        "properties": [{"name": "aicert:part", "value": item.part}],
    }


def _document(
    seed: str, subject: Json, components: list[Json], needed: list[Json], spec: Version
) -> bytes:
    refs = [str(component["bom-ref"]) for component in needed]
    return dumps(
        head(spec)
        | {
            "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, seed)}",
            "metadata": {"component": subject},
            "components": components,
            "dependencies": [{"ref": subject["bom-ref"], "dependsOn": refs}],
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
