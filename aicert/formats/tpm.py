"""Strict parsers for what a TPM signs, and the Names of objects. No TPM is touched here.

TPM 2.0 Library, Part 2 (Structures): TPMS_ATTEST 10.12.12, TPMT_SIGNATURE 11.3.4, TPMT_PUBLIC
12.2.4; Part 1, clause 16: Names and Qualified Names. Every parser consumes its input exactly,
refuses what it does not know by number, and raises EvidenceError only.

Left out on purpose: whether a key made a signature (`crypto/signatures.py`), SHA-1 (no signature
and no Name made with it is accepted), attestation types other than quote, certify and what an NV
index holds, and keyed-hash and symmetric objects.
"""

import hashlib
from collections.abc import Mapping

from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.binary import Reader
from aicert.frozen import dataclass

TPM_GENERATED = 0xFF544347  # Part 2, 6.2
ST_ATTEST_CERTIFY = 0x8017  # Part 2, 6.9
ST_ATTEST_QUOTE = 0x8018
ST_ATTEST_NV = 0x8014
RH_NULL = 0x40000007  # Part 2, 7.4

ALG_NULL = 0x0010  # Part 2, 6.3
ALG_RSA = 0x0001
ALG_ECC = 0x0023
ALG_RSASSA = 0x0014
ALG_RSAPSS = 0x0016
ALG_ECDSA = 0x0018
ALG_ECDAA = 0x001A
ALG_RSAES = 0x0015
ALG_SHA256 = 0x000B
ALG_SHA1 = 0x0004  # too weak: missing below on purpose
HASHES: Mapping[int, str] = {ALG_SHA256: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
SIGNATURE_SCHEMES: Mapping[int, str] = {
    ALG_RSASSA: "RSASSA",
    ALG_RSAPSS: "RSAPSS",
    ALG_ECDSA: "ECDSA",
}

CURVE_P256 = 0x0003  # Part 2, 6.4
CURVE_BYTES: Mapping[int, int] = {CURVE_P256: 32, 0x0004: 48}

# TPMA_OBJECT, Part 2, 8.3.
FIXED_TPM = 1 << 1
ST_CLEAR = 1 << 2
FIXED_PARENT = 1 << 4
SENSITIVE_DATA_ORIGIN = 1 << 5
USER_WITH_AUTH = 1 << 6
SIGN = 1 << 18

# TPM2B_DATA and TPM2B_NAME hold at most an algorithm and a SHA-512 digest.
MAX_NAME = 66
# A SHA-512 digest, a number of P-384, and a number of RSA with 4096 bits.
MAX_DIGEST = 64
MAX_ECDSA = 48
MAX_RSA = 512
# A TPM has few banks; the genuine quotes that we know select PCRs in one.
MAX_SELECTIONS = 16

QUOTE_CONTEXT = b"aicert quote v1\0"
NONCE_BYTES = 32
NAME_BYTES = 34
COUNTER_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """TPMS_CLOCK_INFO, Part 2, 10.11.1, and the firmware version that follows it."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The PCRs selected in one bank: the bank's algorithm number, and the indices, ascending."""

    algorithm: int
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE."""

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    selections: tuple[Selection, ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certification:
    """A TPMS_ATTEST of type TPM_ST_ATTEST_CERTIFY."""

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    name: bytes
    qualified_name: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterReading:
    """A TPMS_ATTEST of type TPM_ST_ATTEST_NV about a counter: its Name and its value."""

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    name: bytes
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A TPMT_SIGNATURE: scheme and hash by number; RSA's bytes, or ECDSA's r and s."""

    scheme: int
    hash: int
    rsa: bytes = b""
    r: int = 0
    s: int = 0

    def __str__(self) -> str:
        return f"{SIGNATURE_SCHEMES[self.scheme]} with {HASHES[self.hash].upper()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A TPMT_PUBLIC of an RSA or ECC key, and the exact bytes it was read from."""

    raw: bytes
    type: int
    name_hash: int
    attributes: int
    auth_policy: bytes
    symmetric: int
    scheme: int
    scheme_hash: int
    curve: int = 0
    x: bytes = b""
    y: bytes = b""
    key_bits: int = 0
    exponent: int = 0
    modulus: bytes = b""

    @property
    def name(self) -> bytes:
        """The object's Name: nameAlg ‖ H(public area). Part 1, clause 16."""
        return self.name_hash.to_bytes(2) + _hash(self.name_hash, self.raw)


def parse_quote(data: bytes) -> Quote:
    """Read a quote; a wrong magic, a wrong type or trailing bytes are an EvidenceError."""
    reader = Reader(data, "the quote's TPMS_ATTEST")
    signer, extra, clock = _attest_head(reader, ST_ATTEST_QUOTE)
    selections = tuple(_selection(reader) for _ in range(reader.count(MAX_SELECTIONS)))
    digest = reader.sized(MAX_DIGEST, "pcrDigest")
    reader.done()
    return Quote(
        qualified_signer=signer,
        extra_data=extra,
        clock=clock,
        selections=selections,
        pcr_digest=digest,
    )


def parse_certification(data: bytes, what: str = "the run key's TPMS_ATTEST") -> Certification:
    """Read what TPM2_Certify signed; as strict as `parse_quote`."""
    reader = Reader(data, what)
    signer, extra, clock = _attest_head(reader, ST_ATTEST_CERTIFY)
    name = reader.sized(MAX_NAME, "name")
    qualified_name = reader.sized(MAX_NAME, "qualifiedName")
    reader.done()
    return Certification(
        qualified_signer=signer,
        extra_data=extra,
        clock=clock,
        name=name,
        qualified_name=qualified_name,
    )


def parse_counter(data: bytes, what: str) -> CounterReading:
    """Read what TPM2_NV_Certify signed about a whole counter (Part 2, 10.12.8).

    As strict as `parse_quote`.
    """
    reader = Reader(data, what)
    signer, extra, clock = _attest_head(reader, ST_ATTEST_NV)
    name = reader.sized(MAX_NAME, "indexName")
    offset, contents = reader.u16(), reader.sized(COUNTER_BYTES, "nvContents")
    reader.done()
    if offset or len(contents) != COUNTER_BYTES:
        raise EvidenceError(f"{what}: it does not cover a whole counter")
    return CounterReading(
        qualified_signer=signer,
        extra_data=extra,
        clock=clock,
        name=name,
        value=int.from_bytes(contents),
    )


def _attest_head(reader: Reader, wanted: int) -> tuple[bytes, bytes, Clock]:
    magic = reader.u32()
    if magic != TPM_GENERATED:
        raise EvidenceError(f"{reader.what}: magic is {magic:#010x}, so no TPM made it")
    kind = reader.u16()
    if kind != wanted:
        raise EvidenceError(f"{reader.what}: type is {kind:#06x}, expected {wanted:#06x}")
    signer = reader.sized(MAX_NAME, "qualifiedSigner")
    extra = reader.sized(MAX_NAME, "extraData")
    clock, reset, restart = reader.u64(), reader.u32(), reader.u32()
    safe = reader.u8()
    if safe > 1:
        raise EvidenceError(f"{reader.what}: clockInfo.safe is {safe}, neither yes nor no")
    info = Clock(
        clock=clock,
        reset_count=reset,
        restart_count=restart,
        safe=safe == 1,
        firmware_version=reader.u64(),
    )
    return signer, extra, info


def _selection(reader: Reader) -> Selection:
    """Read a TPMS_PCR_SELECTION, Part 2, 10.6.2: bit `n % 8` of byte `n // 8` selects PCR n."""
    algorithm = reader.u16()
    bitmap = reader.take(reader.u8())
    # Part 2, 10.6.1: PCR_SELECT_MIN is 3 octets on a PC; 4 octets select up to PCR 31, the highest
    # there is.
    if not 3 <= len(bitmap) <= 4:
        raise EvidenceError(f"{reader.what}: a PCR selection of {len(bitmap)} octets")
    bits = int.from_bytes(bitmap, "little")
    return Selection(
        algorithm=algorithm, pcrs=tuple(n for n in range(8 * len(bitmap)) if bits >> n & 1)
    )


def selected_pcrs(quote: Quote) -> tuple[int, ...]:
    """Return the PCRs of the one SHA-256 selection; none, two, or another bank is an EvidenceError.

    With a second selection, even an empty or a repeated one, the value of one register was passed
    off as that of another (CVE-2024-29039).
    """
    if len(quote.selections) != 1:
        raise EvidenceError(f"the quote has {len(quote.selections)} PCR selections, not one")
    selection = quote.selections[0]
    if selection.algorithm != ALG_SHA256:
        raise EvidenceError(f"the quote covers bank {selection.algorithm:#06x}, not SHA-256")
    return selection.pcrs


def parse_signature(data: bytes) -> Signature:
    """Read a TPMT_SIGNATURE: RSASSA, RSAPSS or ECDSA, with SHA-256, SHA-384 or SHA-512.

    Another scheme or hash is an UndecidedError, unless it is missing or too weak.
    """
    reader = Reader(data, "the TPMT_SIGNATURE")
    scheme = reader.u16()
    if scheme not in SIGNATURE_SCHEMES:
        kind = EvidenceError if scheme == ALG_NULL else UndecidedError
        raise kind(f"{reader.what}: unknown scheme {scheme:#06x}")
    hash_ = _known_hash(reader, UndecidedError)
    if scheme == ALG_ECDSA:
        r, s = (int.from_bytes(reader.sized(MAX_ECDSA, part)) for part in ("r", "s"))
        reader.done()
        return Signature(scheme=scheme, hash=hash_, r=r, s=s)
    rsa = reader.sized(MAX_RSA, "signature")
    reader.done()
    return Signature(scheme=scheme, hash=hash_, rsa=rsa)


def _known_hash(reader: Reader, unknown: type[EvidenceError]) -> int:
    hash_ = reader.u16()
    if hash_ not in HASHES:
        kind = EvidenceError if hash_ == ALG_SHA1 else unknown
        raise kind(f"{reader.what}: hash {hash_:#06x} is not SHA-256, SHA-384 or SHA-512")
    return hash_


def parse_public(data: bytes) -> Public:
    """Read a TPMT_PUBLIC of an RSA or an ECC key."""
    reader = Reader(data, "the TPMT_PUBLIC")
    kind = reader.u16()
    if kind not in (ALG_RSA, ALG_ECC):
        raise EvidenceError(f"{reader.what}: object type {kind:#06x} is not a key's")
    # A run key's nameAlg is SHA-256, so a key with an unknown one is refused, not undecided.
    name_hash = _known_hash(reader, EvidenceError)
    attributes = reader.u32()
    policy = reader.sized(MAX_DIGEST, "authPolicy")
    symmetric = reader.u16()
    if symmetric != ALG_NULL:
        reader.take(4)  # TPMT_SYM_DEF_OBJECT: keyBits and mode
    scheme = reader.u16()
    # ALG_RSAES takes no hash, Part 2, 11.2.2.2; ECDAA has a count after its hash.
    scheme_hash = 0 if scheme in (ALG_NULL, ALG_RSAES) else reader.u16()
    if scheme == ALG_ECDAA:
        reader.take(2)
    if kind == ALG_ECC:
        curve, x, y = _ecc_unique(reader)
        reader.done()
        return Public(
            raw=data, type=kind, name_hash=name_hash, attributes=attributes, auth_policy=policy,
            symmetric=symmetric, scheme=scheme, scheme_hash=scheme_hash, curve=curve, x=x, y=y,
        )  # fmt: skip
    bits, exponent, modulus = reader.u16(), reader.u32(), reader.sized(MAX_RSA, "modulus")
    reader.done()
    return Public(
        raw=data, type=kind, name_hash=name_hash, attributes=attributes, auth_policy=policy,
        symmetric=symmetric, scheme=scheme, scheme_hash=scheme_hash, key_bits=bits,
        exponent=exponent or 65537, modulus=modulus,
    )  # fmt: skip


def _ecc_unique(reader: Reader) -> tuple[int, bytes, bytes]:
    curve = reader.u16()
    if curve not in CURVE_BYTES:
        raise EvidenceError(f"{reader.what}: curve {curve:#06x} is not P-256 or P-384")
    if reader.u16() != ALG_NULL:
        reader.take(2)  # TPMT_KDF_SCHEME: its hash
    size = CURVE_BYTES[curve]
    return curve, reader.sized(size, "x"), reader.sized(size, "y")


def sha256_name(public_area: bytes) -> bytes:
    """Return the Name of a public area whose nameAlg is SHA-256 (Part 1, clause 16)."""
    return ALG_SHA256.to_bytes(2) + hashlib.sha256(public_area).digest()


def qualified_name_of_primary(hierarchy: int, name: bytes) -> bytes:
    """Return a primary key's qualified name (Part 1, clause 16).

    QN = nameAlg ‖ H(handle of the hierarchy ‖ Name).
    """
    algorithm = int.from_bytes(name[:2])
    return name[:2] + _hash(algorithm, hierarchy.to_bytes(4) + name)


def _hash(algorithm: int, data: bytes) -> bytes:
    return hashlib.new(HASHES[algorithm], data).digest()


def pcr_digest(values: Mapping[int, bytes], pcrs: tuple[int, ...], signature: Signature) -> bytes:
    """Return what pcrDigest must be: the scheme's hash over the ascending values (Part 3, 18.4)."""
    return _hash(signature.hash, b"".join(values[n] for n in pcrs))


def quote_extra_data(nonce: bytes, run_key_name: bytes, statement: bytes) -> bytes:
    """Return what a quote's extraData must be: it binds nonce, run key and statement to the PCRs.

    `nonce` is 32 bytes and `run_key_name` 34, so that no two triples give the same preimage.
    """
    if len(nonce) != NONCE_BYTES or len(run_key_name) != NAME_BYTES:
        raise EvidenceError("a quote binds a nonce of 32 bytes and a run key Name of 34")
    statement_digest = hashlib.sha256(statement).digest()
    return hashlib.sha256(QUOTE_CONTEXT + nonce + run_key_name + statement_digest).digest()
