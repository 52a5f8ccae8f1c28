"""Verify what Intel says about its processors: certificates, revocations, TCB info, QE identity.

Intel's Provisioning Certification Service, API version 4: a processor's certificate (PCK) with
Intel's extension (1.2.840.113741.1.13.1: FMSPC, PCE-ID and the firmware versions for which it is
valid), the revocation lists of root and PCK CA, "TCB info" (which versions are up to date, per
FMSPC) and the "QE identity" (which quoting enclave is Intel's). The last two are JSON whose bytes
Intel signs. All but the first travel together in one JSON file, the collateral, in the form that
`dcap-qvl` writes.

What `verify` returns was signed under the policy's root and is valid at the stated time. If
something is expired or missing, the check is undecided, since newer collateral would answer it.
Left out: fetching.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aicert.appraisal.evidence.accepted import TdRoot
from aicert.appraisal.evidence.maker_path import certified_path
from aicert.appraisal.evidence.revocation import check_not_revoked, load_list
from aicert.appraisal.evidence.tdx_quote import pem_chain, verify_raw
from aicert.crypto.x509 import (
    basic_constraints,
    common_name,
    key_on,
    load,
    private_extensions,
    stamp,
)
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.strict_json import Fields, loads
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate, CertificateRevocationList

# Genuine collateral has 18 kB, of which the list of revoked processors takes 3 to 7.
MAX_COLLATERAL = 1 << 18
MAX_TEXT = 1 << 17
_EXTENSION = "1.2.840.113741.1.13.1"
_TCB, _PCE_ID, _FMSPC = (bytes.fromhex("2a864886f84d010d01") + bytes((n,)) for n in (2, 3, 4))
COMPONENTS = 16
TCB_SIGNER = "Intel SGX TCB Signing"
# Genuine TCB info has three levels, older processors' some twenty.
MAX_LEVELS = 64
MAX_MODULES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """One processor, from its certificate.

    `fmspc`, `pce_id`: its kind. `components`, `pce_svn`: the versions for which its key is valid.
    `path`: the certificates up to the root.
    """

    key: "EllipticCurvePublicKey"
    fmspc: str
    pce_id: str
    components: tuple[int, ...]
    pce_svn: int
    path: "tuple[Certificate, ...]"
    root: TdRoot


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The minimum versions for `status`, which holds unless a higher level applies."""

    components: tuple[int, ...]
    td_components: tuple[int, ...]
    svn: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A TDX module that Intel signed: its signer, its attributes (under a mask) and its levels."""

    signer: bytes
    attributes: bytes
    mask: bytes
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclave:
    """Intel's quoting enclave for TDs; `misc` and `attributes` are pairs of value and mask."""

    misc: tuple[bytes, bytes]
    attributes: tuple[bytes, bytes]
    signer: bytes
    product: int
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """What Intel signed about its processors and its quoting enclave, valid at the stated time.

    `modules`: the TDX modules by id; the oldest has the id "". `issued`: when the older of the two
    parts was issued.
    """

    issued: str
    evaluation: int
    levels: tuple[Level, ...]
    modules: Mapping[str, Module]
    enclave: Enclave


_Versions = tuple[tuple[int, ...], tuple[int, ...], int]


def certify(chain: Sequence[bytes], roots: Sequence[TdRoot], at: datetime) -> Platform:
    """Return the processor of a quote's certificates, if one of `roots` certifies it at
    time `at`.
    """
    if len(chain) != 3:
        raise EvidenceError(f"the processor's chain has {len(chain)} certificates, not 3")
    root = next((one for one in roots if one.root == chain[-1]), None)
    if root is None:
        names = ", ".join(one.name for one in roots)
        raise EvidenceError(
            f"the processor's certificate chains to no root of this policy: {names}"
        )
    path = certified_path(chain, "the processor's certificate", at)
    if basic_constraints(path[0]) is not None:
        raise EvidenceError("the processor's certificate is a CA certificate")
    tcb, values = _extension(path[0])
    return Platform(
        key=key_on(path[0], "secp256r1", "the processor's certificate"),
        fmspc=values[_FMSPC].hex(),
        pce_id=values[_PCE_ID].hex(),
        components=tcb[:COMPONENTS],
        pce_svn=tcb[COMPONENTS],
        path=path,
        root=root,
    )


def verify(data: bytes, platform: Platform, at: datetime) -> Collateral:
    """Return what the collateral says.

    Checks that Intel signed it under the root of `platform`, and that it is about that processor
    and does not revoke it.
    """
    fields = Fields(loads(data, what="the collateral", max_bytes=MAX_COLLATERAL), "collateral")
    texts = {name: fields.text(name, max_length=MAX_TEXT) for name in _NAMES}
    fields.done()
    root = platform.path[-1]
    revoked = {
        name: _revocations(texts[name], f"collateral.{name}", at)
        for name in ("root_ca_crl", "pck_crl")
    }
    check_not_revoked(platform.path[1], root, revoked["root_ca_crl"])
    check_not_revoked(platform.path[0], platform.path[1], revoked["pck_crl"])
    issuers = _chain(texts, "pck_crl_issuer_chain")
    if load(issuers[0], "collateral.pck_crl_issuer_chain") != platform.path[1]:
        raise UndecidedError("the collateral's revocation list is from a different CA")
    signed, issued = {}, []
    for name in ("tcb_info", "qe_identity"):
        chain = _chain(texts, f"{name}_issuer_chain")
        if len(chain) != 2 or chain[1] != platform.root.root:
            raise EvidenceError(
                f"collateral: {name} chains to a different root than the processor's"
            )
        signer, _ = path = certified_path(chain, f"collateral: {name}", at)
        if basic_constraints(signer) is not None or common_name(signer) != TCB_SIGNER:
            raise EvidenceError(f"collateral: {name} is signed by {common_name(signer)[:80]!a}")
        check_not_revoked(signer, path[1], revoked["root_ca_crl"])
        document = texts[name].encode()
        signature = _hex(texts[f"{name}_signature"], 64, f"collateral.{name}_signature")
        verify_raw(
            key_on(signer, "secp256r1", name),
            signature,
            document,
            f"collateral: {name} is not signed by Intel",
        )
        signed[name] = Fields(
            loads(document, what=name, max_bytes=MAX_TEXT, signed=True), f"collateral.{name}"
        )
        start, end = (_time(signed[name], key) for key in ("issueDate", "nextUpdate"))
        _check_between(start, end, f"collateral.{name}", at)
        issued.append(start)
    return _read(signed["tcb_info"], signed["qe_identity"], platform, min(issued))


_NAMES = (
    "pck_crl_issuer_chain",
    "root_ca_crl",
    "pck_crl",
    "tcb_info_issuer_chain",
    "tcb_info",
    "tcb_info_signature",
    "qe_identity_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
)


def _chain(texts: dict[str, str], name: str) -> tuple[bytes, ...]:
    return pem_chain(texts[name].encode(), f"collateral.{name}")


def _revocations(text: str, what: str, at: datetime) -> "CertificateRevocationList":
    """Read a revocation list that is valid at that time; its signature is not verified yet."""
    revoked = load_list(_hex(text, len(text) // 2, what), what)
    _check_between(revoked.last_update_utc, revoked.next_update_utc, what, at)
    return revoked


def _check_between(start: datetime, end: datetime | None, what: str, at: datetime) -> None:
    if end is None:
        raise UndecidedError(f"{what} does not say how long it is valid")
    if not start <= at <= end:
        raise UndecidedError(
            f"{what} is {'expired' if at > end else 'not yet valid'}: "
            f"it is valid from {stamp(start)} to {stamp(end)}, and the time is {stamp(at)}",
            hint="--collateral FILE",
        )


def _time(fields: Fields, key: str) -> datetime:
    text = fields.text(key, max_length=20)
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise EvidenceError(f"{fields.where}.{key} is not a time") from None


def _hex(text: str, size: int, what: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    # `bytes.fromhex` ignores spaces.
    if len(value) != size or len(text) != 2 * size:
        raise EvidenceError(f"{what} is not {2 * size} hexadecimal digits")
    return value


def _hex_field(fields: Fields, key: str, size: int) -> bytes:
    return _hex(fields.text(key, max_length=2 * size), size, f"{fields.where}.{key}")


def _read(tcb: Fields, enclave: Fields, platform: Platform, issued: datetime) -> Collateral:
    """Read TCB info of version 3 for TDX and a QE identity of version 2, for this kind of
    processor.
    """
    kinds = tcb.text("id"), tcb.integer("version"), enclave.text("id"), enclave.integer("version")
    if kinds != ("TDX", 3, "TD_QE", 2) or tcb.integer("tcbType") != 0:
        raise UndecidedError(f"collateral of kinds and versions {kinds} is not known")
    fmspc = _hex_field(tcb, "fmspc", 6).hex()
    pce_id = _hex_field(tcb, "pceId", 2).hex()
    if (fmspc, pce_id) != (platform.fmspc, platform.pce_id):
        raise UndecidedError(
            "the collateral is for another kind of processor\n"
            f"found     FMSPC {fmspc}, PCE-ID {pce_id}\n"
            f"expected  FMSPC {platform.fmspc}, PCE-ID {platform.pce_id}"
        )
    oldest = tcb.fields("tdxModule")
    modules = {"": _module(oldest, ())}
    if tcb.has("tdxModuleIdentities"):
        for one in tcb.items("tdxModuleIdentities", Fields, max_items=MAX_MODULES):
            modules[one.text("id")] = _module(one, _levels(one, _svn_level))
    evaluations = [one.integer("tcbEvaluationDataNumber") for one in (tcb, enclave)]
    return Collateral(
        issued=stamp(issued),
        evaluation=min(evaluations),
        levels=_levels(tcb, _tcb_level),
        modules=modules,
        enclave=Enclave(
            misc=(_hex_field(enclave, "miscselect", 4), _hex_field(enclave, "miscselectMask", 4)),
            attributes=_masked(enclave, "attributes", 16),
            signer=_hex_field(enclave, "mrsigner", 32),
            product=enclave.integer("isvprodid"),
            levels=_levels(enclave, _svn_level),
        ),
    )


def _masked(fields: Fields, key: str, size: int) -> tuple[bytes, bytes]:
    return _hex_field(fields, key, size), _hex_field(fields, f"{key}Mask", size)


def _module(fields: Fields, levels: tuple[Level, ...]) -> Module:
    attributes, mask = _masked(fields, "attributes", 8)
    signer = _hex_field(fields, "mrsigner", 48)
    return Module(signer=signer, attributes=attributes, mask=mask, levels=levels)


def _levels(fields: Fields, read: Callable[[Fields], _Versions]) -> tuple[Level, ...]:
    def level(value: object, where: str) -> Level:
        one = Fields(value, where)
        components, td_components, svn = read(one.fields("tcb"))
        return Level(
            components=components,
            td_components=td_components,
            svn=svn,
            status=one.text("tcbStatus"),
        )

    return fields.items("tcbLevels", level, max_items=MAX_LEVELS)


def _svn_level(tcb: Fields) -> _Versions:
    return (), (), tcb.integer("isvsvn")


def _tcb_level(tcb: Fields) -> _Versions:
    lists = []
    for key in ("sgxtcbcomponents", "tdxtcbcomponents"):
        svns = tcb.items(
            key, lambda value, where: Fields(value, where).integer("svn"), max_items=COMPONENTS
        )
        if len(svns) != COMPONENTS:
            raise EvidenceError(f"{tcb.where}.{key} has {len(svns)} items, not {COMPONENTS}")
        lists.append(svns)
    return lists[0], lists[1], tcb.integer("pcesvn")


def _extension(certificate: "Certificate") -> tuple[tuple[int, ...], dict[bytes, bytes]]:
    """Return versions of the 16 components and of the PCE, and the other values by object
    identifier.
    """
    value = private_extensions(certificate).get(_EXTENSION)
    values = {} if value is None else _pairs(_content(value))
    if not {_TCB, _PCE_ID, _FMSPC} <= values.keys():
        raise EvidenceError("the processor's certificate does not say which processor it is for")
    parts = _pairs(values[_TCB])
    numbers = (parts.get(_TCB + bytes((n,)), b"") for n in range(1, COMPONENTS + 2))
    tcb = tuple(int.from_bytes(number, signed=True) if number else -1 for number in numbers)
    if min(tcb) < 0 or max(tcb) > 0xFFFF:
        raise EvidenceError("the processor's certificate does not name firmware versions")
    return tcb, values


def _pairs(data: bytes) -> dict[bytes, bytes]:
    """Read SEQUENCEs of an object identifier and a value, without duplicates."""
    pairs: dict[bytes, bytes] = {}
    for tag, pair in _elements(data):
        parts = _elements(pair)
        if tag != 0x30 or len(parts) != 2 or parts[0][0] != 6 or parts[0][1] in pairs:
            raise EvidenceError("the processor's certificate: its extension is malformed")
        pairs[parts[0][1]] = parts[1][1]
    return pairs


def _content(data: bytes) -> bytes:
    elements = _elements(data)
    if len(elements) != 1 or elements[0][0] != 0x30:
        raise EvidenceError("the processor's certificate: its extension is malformed")
    return elements[0][1]


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each DER element; lengths have one octet, or one or two more."""
    elements, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place + 1 : place + 2])
        octets = size - 0x80 if size > 0x80 else 0
        start = place + 2 + octets
        size = int.from_bytes(data[place + 2 : start]) if octets else size
        bad = octets > 2 or start > len(data) or (size == 0x80 and not octets)
        if bad or start + size > len(data):
            raise EvidenceError("the processor's certificate: its extension is malformed")
        elements.append((data[place], data[start : start + size]))
        place = start + size
    return elements
