"""Read from an attestation key's certificate which machine in Google's cloud it belongs to.

Google writes zone, project and machine into a private extension of the certificates of its virtual
TPMs (1.3.6.1.4.1.11129.2.1.21; cloud.google.com/compute, "Verifying the identity of instances" and
google/go-tpm-tools, `GCEInstanceInfo`): a DER SEQUENCE of zone, project number, project id, machine
number, machine name, and security properties, which are not read. No check relies on it: it is
shown as Google's claim if the chain is ok.
"""

from typing import TYPE_CHECKING

from aicert.errors import EvidenceError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

OID = "1.3.6.1.4.1.11129.2.1.21"
# A name has at most 63 characters, and there are five fields.
MAX_BYTES = 1024
_SEQUENCE, _INTEGER, _UTF8 = 0x30, 0x02, 0x0C
_FIELDS = (_UTF8, _INTEGER, _UTF8, _INTEGER, _UTF8)


def instance_text(certificate: "Certificate") -> str:
    """Return `instance NAME (NUMBER) of project ID (NUMBER), zone ZONE`, or why it cannot
    be named.
    """
    for extension in certificate.extensions:
        if extension.oid.dotted_string == OID:
            try:
                zone, number, project, instance, name = _fields(extension.value.public_bytes())
            except EvidenceError as error:
                return f"of an instance that cannot be named: {error.message}"
            return f"instance {name} ({instance}) of project {project} ({number}), zone {zone}"
    return "of an instance that it does not name"


def _fields(value: bytes) -> list[str]:
    if len(value) > MAX_BYTES:
        raise EvidenceError(f"its description has more than {MAX_BYTES} bytes")
    tag, body, rest = _element(value)
    if tag != _SEQUENCE or rest:
        raise EvidenceError("its description is not one DER SEQUENCE")
    fields = []
    for kind in _FIELDS:
        tag, content, body = _element(body)
        if tag != kind:
            raise EvidenceError("its description has unknown fields")
        fields.append(_shown(kind, content))
    return fields


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and content of the first DER element, and the bytes that follow it.

    Lengths have one octet, or one or two more.
    """
    octets = data[1] - 0x80 if len(data) > 1 and data[1] > 0x80 else 0
    start = 2 + octets
    if len(data) < start or octets > 2:
        raise EvidenceError("its description is cut short")
    size = int.from_bytes(data[2:start]) if octets else data[1]
    if (size == 0x80 and not octets) or start + size > len(data):
        raise EvidenceError("its description is cut short")
    return data[0], data[start : start + size], data[start + size :]


def _shown(kind: int, content: bytes) -> str:
    if kind == _INTEGER:
        return str(int.from_bytes(content, signed=True)) if 1 <= len(content) <= 9 else "?"
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise EvidenceError("its description is not UTF-8") from None
