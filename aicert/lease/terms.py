"""The terms of a lease: public, reviewed like a lockfile, named by digest in every licence.

Output rules: LF, printable ASCII, one fact a line in a fixed order, nothing to escape; `parse`
accepts exactly what `emit` writes. The identity of terms is the SHA-256 of their bytes
(docs/spec/lease.md has an example).
"""

import re
import tomllib
from typing import Final

from aicert.errors import EvidenceError, LockError
from aicert.formats.digest import Digest, is_hex, of_bytes
from aicert.formats.fields import Table
from aicert.frozen import dataclass, replace

VERSION: Final = 1
WHAT: Final = "lease terms"
# The longest terms have some 700 bytes. `tomllib` takes quadratic time for a key with many dots.
MAX_BYTES: Final = 4096
LEASE_DIGITS: Final = 32
# The routes that a gateway can count and bound. A lease allows some of these and never another.
ROUTES: Final = ("/v1/chat/completions", "/v1/completions", "/v1/models")
SPLIT: Final = "split"
TPM_ALONE: Final = "tpm"
KEYS: Final = (SPLIT, TPM_ALONE)
# 2^32 tokens a tick would be a lease that is never counted; 2^20 tokens is the longest context.
MAX_TICK_TOKENS: Final = 1 << 20
MAX_OUTPUT_TOKENS: Final = 1 << 20
MAX_HEARTBEAT: Final = 3600
MAX_EGRESS: Final = 4096
_SPKI = re.compile(r"spki-sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a lease allows. `digest`: the identity of these terms.

    `certificate`: the digest of the certificate whose subject `model` is; `custodian`: SHA-256 of
    the SubjectPublicKeyInfo of the key that signs licences, in hex; `key`: SPLIT between the TPM
    and a broker, or TPM_ALONE for leases that run offline.
    """

    digest: Digest
    lease: str
    model: Digest
    certificate: Digest
    tick_tokens: int
    routes: tuple[str, ...]
    max_output_tokens: int
    heartbeat_seconds: int
    egress_bytes_per_token: int
    key: str
    custodian: str


def emit(terms: Terms) -> bytes:
    """Return the canonical bytes; LockError for what terms cannot hold. `digest` is not read.

    People review what stands in terms: values that a machine could not honour are refused.
    """
    _check(terms)
    routes = ", ".join(f'"{route}"' for route in terms.routes)
    lines = (
        f"version = {VERSION}",
        f'lease = "{terms.lease}"',
        f'model = "{terms.model}"',
        f'certificate = "{terms.certificate}"',
        f"tick-tokens = {terms.tick_tokens}",
        f"routes = [{routes}]",
        f"max-output-tokens = {terms.max_output_tokens}",
        f"heartbeat-seconds = {terms.heartbeat_seconds}",
        f"egress-bytes-per-token = {terms.egress_bytes_per_token}",
        f'key = "{terms.key}"',
        f'custodian = "spki-sha256:{terms.custodian}"',
    )
    return ("\n".join(lines) + "\n").encode("ascii")


def identified(terms: Terms) -> Terms:
    """Return the same terms with the digest that their bytes have."""
    return replace(terms, digest=of_bytes(emit(terms)))


def parse(data: bytes) -> Terms:
    """Read terms; LockError unless `data` is exactly the canonical form."""
    if len(data) > MAX_BYTES:
        raise LockError(f"{WHAT} are larger than {MAX_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode("ascii"))
    except (ValueError, RecursionError):
        # ValueError: TOMLDecodeError, UnicodeDecodeError, integers of more than 4,300 digits.
        raise LockError(f"{WHAT} are not in canonical form") from None
    try:
        terms = _read(Table(document, WHAT), of_bytes(data))
    except EvidenceError as error:
        raise LockError(f"{WHAT}: {error.message}") from None
    # This also refuses another order, other spellings of a value, comments and blank lines.
    if emit(terms) != data:
        raise LockError(f"{WHAT} are not in canonical form")
    return terms


def _read(table: Table, digest: Digest) -> Terms:
    if table.take("version", int) != VERSION:
        raise table.wrong("version", f"expected {VERSION}")
    custodian = _SPKI.fullmatch(table.text("custodian"))
    if custodian is None:
        raise table.wrong("custodian", "expected spki-sha256: and 64 hexadecimal digits")
    terms = Terms(
        digest=digest,
        lease=table.text("lease"),
        model=Digest.parse(table.text("model")),
        certificate=Digest.parse(table.text("certificate")),
        tick_tokens=table.take("tick-tokens", int),
        routes=table.texts("routes", len(ROUTES)),
        max_output_tokens=table.take("max-output-tokens", int),
        heartbeat_seconds=table.take("heartbeat-seconds", int),
        egress_bytes_per_token=table.take("egress-bytes-per-token", int),
        key=table.text("key"),
        custodian=custodian[1],
    )
    table.done()
    return terms


def _check(terms: Terms) -> None:
    if not is_hex(terms.lease, LEASE_DIGITS):
        raise LockError(f"{WHAT}: lease is not {LEASE_DIGITS} hexadecimal digits")
    if not is_hex(terms.custodian):
        raise LockError(f"{WHAT}: custodian is not 64 hexadecimal digits")
    if terms.model.kind != "dirHash" or terms.certificate.kind != "sha256":
        raise LockError(f"{WHAT}: a model is a directory, and its certificate a file")
    if terms.key not in KEYS:
        raise LockError(f"{WHAT}: key is not {' or '.join(KEYS)}")
    if not terms.routes or terms.routes != tuple(sorted(set(terms.routes) & set(ROUTES))):
        raise LockError(f"{WHAT}: routes are not some of {', '.join(ROUTES)}, sorted")
    for name, value, most in (
        ("tick-tokens", terms.tick_tokens, MAX_TICK_TOKENS),
        ("max-output-tokens", terms.max_output_tokens, MAX_OUTPUT_TOKENS),
        ("heartbeat-seconds", terms.heartbeat_seconds, MAX_HEARTBEAT),
        ("egress-bytes-per-token", terms.egress_bytes_per_token, MAX_EGRESS),
    ):
        if not 1 <= value <= most:
            raise LockError(f"{WHAT}: {name} is not from 1 to {most}")
