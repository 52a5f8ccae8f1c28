"""The packages of a training environment and of a machine image as CycloneDX, from their locks.

Of a training environment this reads what pip's hash-checking mode reads: `name==version`, then
`--hash=sha256:HEX` for each of its distributions. A line of another form is an EvidenceError: a
bill of materials with gaps is none. Of an image it reads the image lock: packages that are in it
are `required`, those that only built it `excluded`.
"""

import hashlib
import re
import uuid

from aicert.errors import EvidenceError
from aicert.exports.cyclonedx import NAMESPACE, SPEC, Json, Version, head, package
from aicert.formats import image_lock
from aicert.formats.strict_json import dumps

# Parts of an image lock: what comes from Python's registry, and what is in the image at all.
WHEELS = ("builder", "runner", "training")
INSIDE = ("driver", "kernel", "machine", "runner", "training")
# The one part that is of Ubuntu's archive (ADR 12); the others are of Debian's.
UBUNTU = "driver"
_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!_-]+)((?: --hash=sha256:[0-9a-f]{64})+)"
)


def bom(lock: bytes, name: str, spec: Version = SPEC) -> bytes:
    """The bill of materials of the environment `name` that `lock` describes."""
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
    """The bill of materials of the machine image that the image lock `data` describes."""
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
    # One package may be in several parts, and a document names it once in each.
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
