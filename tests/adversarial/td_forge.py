"""A maker of TDX processors from test keys: quotes, enclaves and collateral.

Test roots have test keys, as in `ca_forge`; every part can be wrong in one way. The layouts follow
Intel 348551 (quotes), the extension of PCK certificates, and published collateral.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from aicert.appraisal.evidence.accepted import Td, TdRoot
from tests.adversarial.ca_forge import Key, distinguished, ec_key, ecdsa, issue, pem, usage
from tests.adversarial.ca_forge import root as self_signed

ROOT, PCK_CA, SIGNER = "Test SGX Root CA", "Test PCK Platform CA", "Intel SGX TCB Signing"
FMSPC, PCE_ID = "0123456789ab", "0000"
ISSUED, NEXT = datetime(2026, 10, 20, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC)
EVALUATION = 18
# The SVNs of the 16 components, then the PCE's.
COMPONENTS = (3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 200)
PCE_SVN = 13
TCB_SVN = bytes((7, 1, 3)) + bytes(13)
QE_SIGNER = hashlib.sha256(b"quoting enclave").digest()
QE_SVN = 5
MRTD = hashlib.sha384(b"paravisor of a TD").digest()
RTMRS = (*(hashlib.sha384(b"rtmr %d" % index).digest() for index in range(3)), bytes(48))
PARAVISOR = Td(name="test td paravisor", mrtd=MRTD)
BARE = Td(name="test td", mrtd=MRTD, rtmrs=RTMRS)
SGX = "1.2.840.113741.1.13.1"
# The object identifier of ecdsa-with-SHA256.
ECDSA = bytes.fromhex("2a8648ce3d040302")


def certified_root() -> bytes:
    return self_signed(ROOT, ec_key("intel root"))


def maker() -> TdRoot:
    """Return the TD root of a verifier: the test maker's root."""
    return TdRoot(
        name="test tdx", root=certified_root(), statuses=frozenset(("UpToDate",)),
        minimum_evaluation=EVALUATION,
    )  # fmt: skip


def pck_ca(**options: Any) -> bytes:
    usual: dict[str, Any] = {"issuer": ROOT, "issuer_key": ec_key("intel root"), "ca": True,
                             "path_length": 0, "key_usage": usage(cert=True)}  # fmt: skip
    return issue(PCK_CA, ec_key("pck ca"), **(usual | options))


def signer(**options: Any) -> bytes:
    """Issue the certificate of the key that signs TCB info and QE identities."""
    usual: dict[str, Any] = {"issuer": ROOT, "issuer_key": ec_key("intel root"),
                             "key_usage": usage()}  # fmt: skip
    key, subject = options.pop("key", ec_key("tcb signer")), options.pop("subject", SIGNER)
    return issue(subject, key, **(usual | options))


def pck(**options: Any) -> bytes:
    """Issue a processor's certificate; `extension` describes the processor (None: left out)."""
    extension = options.pop("extension", sgx_extension())
    extra = []
    if extension is not None:
        extra = [(x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX), extension), False)]
    usual: dict[str, Any] = {"issuer": PCK_CA, "issuer_key": ec_key("pck ca"), "extra": extra,
                             "key_usage": usage(), "serial": 4711}  # fmt: skip
    key: Key = options.pop("key", ec_key("pck"))
    return issue("Test PCK", key, **(usual | options))


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    octets = size.to_bytes(1 if size < 256 else 2)
    head = octets if size < 128 else bytes((0x80 + len(octets),)) + octets
    return bytes((tag,)) + head + content


def _pair(oid: bytes, value: bytes) -> bytes:
    return der(0x30, der(6, oid), value)


_OID = bytes.fromhex("2a864886f84d010d01")


def sgx_extension(
    *, fmspc: str = FMSPC, components: Sequence[int] = (*COMPONENTS, PCE_SVN), twice: bool = False
) -> bytes:
    numbers = [
        _pair(_OID + bytes((2, place)), der(2, value.to_bytes(2, signed=True)))
        for place, value in enumerate(components, 1)
    ]
    tcb = der(0x30, *numbers, _pair(_OID + b"\2\x12", der(4, bytes(16))))
    parts = [
        _pair(_OID + b"\1", der(4, bytes(16))),
        _pair(_OID + b"\2", tcb),
        _pair(_OID + b"\3", der(4, bytes.fromhex(PCE_ID))),
        _pair(_OID + b"\4", der(4, bytes.fromhex(fmspc))),
    ]
    return der(0x30, *parts, *(parts[-1:] if twice else ()))


def td(**fields: Any) -> dict[str, Any]:
    """Return the fields of an honest TD's quote, as on Azure, where the registers are zero."""
    usual: dict[str, Any] = {
        "version": 4, "key_kind": 2, "tee": 0x81, "vendor": "939a7233f79c4ca9940a0db3957f0607",
        "body_kind": 2, "body_size": None, "tcb_svn": TCB_SVN, "module_signer": bytes(48),
        "module_attributes": bytes(8), "attributes": 1 << 28, "mrtd": MRTD,
        "rtmrs": (bytes(48),) * 4, "service_td": bytes(48),
    }  # fmt: skip
    return usual | fields


def signed_part(fields: Mapping[str, Any], report_data: bytes) -> bytes:
    """Return header and body, the part that the quoting enclave signs."""
    head: bytes = struct.pack("<HHI", fields["version"], fields["key_kind"], fields["tee"])
    head += bytes(4) + bytes.fromhex(fields["vendor"]) + bytes(20)
    body: bytes = fields["tcb_svn"] + hashlib.sha384(b"module").digest() + fields["module_signer"]
    body += fields["module_attributes"] + struct.pack("<QQ", fields["attributes"], 0x618E7)
    body += fields["mrtd"] + bytes(144) + b"".join(fields["rtmrs"]) + report_data
    if fields["version"] == 4:
        return head + body
    if fields["body_kind"] == 3:
        body += bytes(16) + fields["service_td"]
    size = len(body) if fields["body_size"] is None else fields["body_size"]
    return head + struct.pack("<HI", fields["body_kind"], size) + body


def raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(data, ecdsa(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def enclave(**fields: Any) -> dict[str, Any]:
    """Return the fields of the honest quoting enclave."""
    usual: dict[str, Any] = {
        "attributes": bytes.fromhex("1500000000000000e700000000000000"), "signer": QE_SIGNER,
        "product": 2, "svn": QE_SVN, "misc": bytes(4), "key": ec_key("pck"), "names": None,
        "auth_data": bytes(range(32)), "outer": 6, "inner": 5, "end": b"\0",
    }  # fmt: skip
    return usual | fields


def enclave_report(fields: Mapping[str, Any], names: bytes) -> bytes:
    body = bytearray(384)
    places = {
        16: fields["misc"], 48: fields["attributes"], 128: fields["signer"],
        256: struct.pack("<HH", fields["product"], fields["svn"]), 320: names,
    }  # fmt: skip
    for place, data in places.items():
        body[place : place + len(data)] = data
    return bytes(body)


def quote(
    signed: bytes, qe: Mapping[str, Any], chain: Sequence[bytes], key: ec.EllipticCurvePrivateKey
) -> bytes:
    """Return a whole quote over `signed`, with `key` as the enclave's."""
    public = point(key) if qe.get("point") is None else qe["point"]
    named = hashlib.sha256(public + qe["auth_data"]).digest() + bytes(32)
    report = enclave_report(qe, named if qe["names"] is None else qe["names"])
    pems = b"".join(pem(der) for der in chain) + qe["end"]
    inner = report + raw(qe["key"], report) + struct.pack("<H", len(qe["auth_data"]))
    inner += qe["auth_data"] + struct.pack("<HI", qe["inner"], len(pems)) + pems
    data: bytes = raw(key, signed) + public + struct.pack("<HI", qe["outer"], len(inner)) + inner
    return signed + struct.pack("<I", len(data)) + data


# The maker's side: its collateral for its processors.


def _level(components: Sequence[int], pce: int, third: int, status: str) -> dict[str, Any]:
    return {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn, "category": "BIOS"} for svn in components],
            "pcesvn": pce,
            "tdxtcbcomponents": [{"svn": svn} for svn in (5, 0, third, *[0] * 13)],
        },
        "tcbDate": "2026-01-01T00:00:00Z",
        "tcbStatus": status,
    }


def _svns(*levels: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"tcb": {"isvsvn": svn}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status}
            for svn, status in levels]  # fmt: skip


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def tcb_info() -> dict[str, Any]:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    levels = _svns((6, "UpToDate"), (4, "OutOfDate"), (2, "Revoked"))
    older = (2, *COMPONENTS[1:])
    return {
        "id": "TDX", "version": 3, "issueDate": stamp(ISSUED), "nextUpdate": stamp(NEXT),
        "fmspc": FMSPC.upper(), "pceId": PCE_ID, "tcbType": 0,
        "tcbEvaluationDataNumber": EVALUATION, "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": levels}],
        "tcbLevels": [
            _level(COMPONENTS, PCE_SVN, 3, "UpToDate"),
            _level(older, PCE_SVN, 2, "OutOfDate"),
            _level(older, 5, 2, "Revoked"),
        ],
    }  # fmt: skip


def qe_identity() -> dict[str, Any]:
    return {
        "id": "TD_QE", "version": 2, "issueDate": stamp(ISSUED), "nextUpdate": stamp(NEXT),
        "tcbEvaluationDataNumber": EVALUATION, "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF", "attributes": "11" + "00" * 15,
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(), "isvprodid": 2,
        "tcbLevels": _svns((4, "UpToDate"), (3, "OutOfDate")),
    }  # fmt: skip


def revoked(
    issuer: str, key: ec.EllipticCurvePrivateKey, *serials: int,
    start: datetime = ISSUED, end: datetime = NEXT, critical: bool = False,
) -> str:  # fmt: skip
    """Return a certificate revocation list, as DER in hexadecimal."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(distinguished(issuer))
    builder = builder.last_update(start).next_update(end)
    number = x509.CRLNumber(1)
    builder = builder.add_extension(number, critical=critical)
    for serial in serials:
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
        builder = builder.add_revoked_certificate(one.build())
    crl = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return crl.public_bytes(serialization.Encoding.DER).hex()


def pems(*chain: bytes) -> str:
    return "".join(pem(der).decode() for der in chain)


def compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def collateral(info: str, identity: str) -> dict[str, str]:
    """Return the collateral that travels together, as strings; both documents are signed."""
    root, key = certified_root(), ec_key("tcb signer")
    return {
        "pck_crl_issuer_chain": pems(pck_ca(), root),
        "root_ca_crl": revoked(ROOT, ec_key("intel root"), 1, 2),
        "pck_crl": revoked(PCK_CA, ec_key("pck ca"), 1, 2, 3),
        "tcb_info_issuer_chain": pems(signer(), root),
        "tcb_info": info,
        "tcb_info_signature": raw(key, info.encode()).hex(),
        "qe_identity_issuer_chain": pems(signer(), root),
        "qe_identity": identity,
        "qe_identity_signature": raw(key, identity.encode()).hex(),
    }


def bound(nonce: bytes, key: Any) -> bytes:
    """Return the report data of a TD without a paravisor."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha512(b"aicert td v1\0" + nonce + public).digest()
