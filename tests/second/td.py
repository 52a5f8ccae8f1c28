"""The second verifier's trust domains (docs/spec/tdx.md).

Written from the specification alone; shares no code with `aicert`.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.second.chain import NoError, load, need, need_known
from tests.second.chip import der, little
from tests.second.forms import CERT, fit, sha, strict_json, text
from tests.second.limits import limits

TD = limits("tdx.md")
ZERO = bytes(48)
SGX = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
OID = bytes.fromhex("2a864886f84d010d01")
_KEYS = ("tcb_info", "tcb_info_signature", "tcb_info_issuer_chain", "qe_identity",
         "qe_identity_signature", "qe_identity_issuer_chain", "root_ca_crl", "pck_crl",
         "pck_crl_issuer_chain")  # fmt: skip
COLLATERAL = {key: text(TD["characters of a string of it"]) for key in _KEYS}
HARMLESS = {*range(8), *range(27, 32), 62, 63}


def whole(value: Any) -> int:
    need(type(value) is int and value >= 0)
    return value  # type: ignore[no-any-return]


def octets(value: Any, size: int) -> bytes:
    need(type(value) is str and re.fullmatch(f"[0-9A-Fa-f]{{{2 * size}}}", value))
    return bytes.fromhex(value)


def hexed(size: int) -> Any:
    return lambda value: octets(value, size) is not None


def number(value: Any) -> bool:
    return whole(value) >= 0


LEVELS, MODULES = TD["`tcbLevels`"], TD["`tdxModuleIdentities`"]
WORD = text(CERT["characters of a text without a limit of its own"])
SVN_LEVELS = [{"tcb": {"isvsvn": number}, "tcbStatus": WORD}, 0, LEVELS]
PARTS = [{"svn": number}, 16, 16]
TCB = {"sgxtcbcomponents": PARTS, "pcesvn": number, "tdxtcbcomponents": PARTS}
MODULE = {"mrsigner": hexed(48), "attributes": hexed(8), "attributesMask": hexed(8)}
INFO = {
    "tdxModule": MODULE,
    "tdxModuleIdentities?": [MODULE | {"id": WORD, "tcbLevels": SVN_LEVELS}, 0, MODULES],
    "tcbEvaluationDataNumber": number,
    "tcbLevels": [{"tcb": TCB, "tcbStatus": WORD}, 0, LEVELS],
}
IDENTITY = {
    "miscselect": hexed(4), "miscselectMask": hexed(4), "attributes": hexed(16),
    "attributesMask": hexed(16), "mrsigner": hexed(32), "isvprodid": number,
    "tcbEvaluationDataNumber": number, "tcbLevels": SVN_LEVELS,
}  # fmt: skip


def holds(value: Any, form: Any) -> None:
    """Check a value as `fit` does, but objects may have more keys."""
    if isinstance(form, dict):
        need(type(value) is dict)
        for key, part in form.items():
            name = key.rstrip("?")
            if name in value or not key.endswith("?"):
                need(name in value)
                holds(value[name], part)
    elif isinstance(form, list):
        item, least, most = form
        need(type(value) is list and least <= len(value) <= most)
        for one in value:
            holds(one, item)
    else:
        need(form(value))


class Bytes:
    """A reader of bytes; `left` is what has not been read yet."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, size: int) -> bytes:
        need(size <= len(self.left))
        taken, self.left = self.left[:size], self.left[size:]
        return taken

    def number(self, size: int) -> int:
        return little(self.take(size))


def pems(data: bytes) -> list[bytes]:
    one = rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\r\n]*)-----END CERTIFICATE-----[\r\n]*"
    need(re.fullmatch(rb"(?:%s){1,%d}" % (one, TD["certificates of a chain"]), data))
    try:
        return [base64.b64decode(re.sub(rb"[\r\n]", b"", body), validate=True)
                for body in re.findall(one, data)]  # fmt: skip
    except binascii.Error:
        raise NoError("base64") from None


def signed(key: Any, signature: bytes, data: bytes) -> None:
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NoError("signature") from None


def p256(certificate: x509.Certificate) -> Any:
    key = certificate.public_key()
    need(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1")
    return key


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_ca(certificate: x509.Certificate) -> bool:
    constraints = extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def path(chain: Sequence[bytes], at: datetime) -> list[x509.Certificate]:
    """Return the certificates of a chain that ends in a root of the policy."""
    certificates = [load(one) for one in chain]
    for depth, (child, issuer) in enumerate(pairwise(certificates)):
        need(is_ca(issuer))
        length = extension(issuer, x509.BasicConstraints).path_length
        need(length is None or depth <= length)
        usage = extension(issuer, x509.KeyUsage)
        need(usage is None or usage.key_cert_sign)
        named = extension(child, x509.AuthorityKeyIdentifier)
        if named is not None and named.key_identifier is not None:
            own = extension(issuer, x509.SubjectKeyIdentifier)
            need(own is not None and own.digest == named.key_identifier)
        try:
            child.verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError):
            raise NoError("issuer") from None
    need(all(one.not_valid_before_utc <= at <= one.not_valid_after_utc for one in certificates))
    return certificates


def pairs(data: bytes) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    for tag, content, _ in der(data):
        parts = der(content)
        need(tag == 0x30 and len(parts) == 2 and parts[0][0] == 6 and parts[0][1] not in values)
        values[parts[0][1]] = parts[1][1]
    return values


def masked(data: bytes, mask: bytes) -> bytes:
    return bytes(one & other for one, other in zip(data, mask, strict=True))


def time(value: Any) -> datetime:
    need(type(value) is str)
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise NoError("time") from None


class Quote:
    """A TD quote, in the form that the specification's table describes."""

    def __init__(self, data: bytes) -> None:
        need(len(data) <= TD["TD quote"])
        given = Bytes(data)
        head = given.take(48)
        self.version = little(head[:2])
        need_known(self.version in (4, 5) and little(head[2:4]) == 2 and little(head[4:8]) == 0x81)
        need_known(head[12:28].hex() == "939a7233f79c4ca9940a0db3957f0607")
        size = 584
        if self.version == 5:
            kind, stated = given.number(2), given.number(4)
            need_known(kind in (2, 3))
            size = {2: 584, 3: 648}[kind]
            need(stated == size)
        self.body = given.take(size)
        self.signed = data[: len(data) - len(given.left)]
        inside = Bytes(given.take(given.number(4)))
        need(not any(given.left))
        self.signature, self.key = inside.take(64), inside.take(64)
        need_known(inside.number(2) == 6)
        by = Bytes(inside.take(inside.number(4)))
        need(not inside.left)
        self.enclave, self.enclave_signature = by.take(384), by.take(64)
        size = by.number(2)
        need(size <= TD["the enclave's data"])
        self.data = by.take(size)
        need_known(by.number(2) == 5)
        chain = by.take(by.number(4))
        need(not by.left)
        self.chain = pems(chain[:-1] if chain[-1:] == b"\0" else chain)
        self.svn, self.rtmrs = (
            self.body[:16],
            [self.body[at : at + 48] for at in range(328, 520, 48)],
        )

    def check_chip(
        self, collateral: bytes | None, makers: Sequence[Mapping[str, Any]], at: datetime
    ) -> Mapping[str, Any]:
        """Check the collateral. Return the policy's table of the maker."""
        need(len(self.chain) == 3)
        mine = [one for one in makers if one["root"] == self.chain[2]]
        need(mine)
        self.path = path(self.chain, at)
        need(not is_ca(self.path[0]))
        self._read_processor()
        signed(p256(self.path[0]), self.enclave_signature, self.enclave)
        need(self.enclave[320:384] == sha(self.key + self.data) + bytes(32))
        x, y = int.from_bytes(self.key[:32]), int.from_bytes(self.key[32:])
        try:
            key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except ValueError:
            raise NoError("point") from None
        signed(key, self.signature, self.signed)
        need_known(collateral is not None)
        self._read_collateral(collateral or b"", at)
        self._check_enclave()
        return mine[0]

    def _read_processor(self) -> None:
        p256(self.path[0])
        extensions = [e.value.public_bytes() for e in self.path[0].extensions if e.oid == SGX]
        need(extensions)
        outer = der(extensions[0])
        need(len(outer) == 1 and outer[0][0] == 0x30)
        values = pairs(outer[0][1])
        need(all(OID + bytes((n,)) in values for n in (2, 3, 4)))
        parts = pairs(values[OID + b"\2"])
        numbers = [parts.get(OID + bytes((2, n)), b"") for n in range(1, 18)]
        need(all(numbers))
        self.tcb = [int.from_bytes(number, signed=True) for number in numbers]
        need(all(0 <= number <= 0xFFFF for number in self.tcb))
        self.kind = values[OID + b"\4"], values[OID + b"\3"]

    def _read_collateral(self, data: bytes, at: datetime) -> None:
        given = strict_json(data, TD["collateral"])
        fit(given, COLLATERAL)
        self.lists = {}
        for name in ("root_ca_crl", "pck_crl"):
            self.lists[name] = self._list(given[name], at)
        pck, authority, root = self.path
        self._check_list(authority, root, "root_ca_crl")
        self._check_list(pck, authority, "pck_crl")
        need_known(load(pems(given["pck_crl_issuer_chain"].encode())[0]) == authority)
        self.info = self._text(given, "tcb_info", at)
        self.identity = self._text(given, "qe_identity", at)
        info, identity = self.info, self.identity
        for document in (info, identity):
            need(type(document.get("id")) is str)
        kinds = (
            info["id"],
            whole(info.get("version")),
            identity["id"],
            whole(identity.get("version")),
        )
        need_known(kinds == ("TDX", 3, "TD_QE", 2) and whole(info.get("tcbType")) == 0)
        need_known((octets(info.get("fmspc"), 6), octets(info.get("pceId"), 2)) == self.kind)
        self._check_form()

    def _list(self, given: str, at: datetime) -> Any:
        try:
            crl = x509.load_der_x509_crl(octets(given, len(given) // 2))
            critical = any(one.critical for one in crl.extensions)
            need(crl.signature_hash_algorithm is not None)
        except (UnsupportedAlgorithm, x509.InvalidVersion):
            need_known(False)
        except (ValueError, TypeError, x509.DuplicateExtension):
            raise NoError("list") from None
        need_known(not critical and crl.next_update_utc is not None)
        need_known(crl.last_update_utc <= at <= crl.next_update_utc)  # type: ignore[operator]
        return crl

    def _check_list(
        self, certificate: x509.Certificate, issuer: x509.Certificate, name: str
    ) -> None:
        crl = self.lists[name]
        need(crl.issuer == issuer.subject)
        try:
            need(crl.is_signature_valid(p256(issuer)))
        except (UnsupportedAlgorithm, ValueError, TypeError):
            raise NoError("list") from None
        need(certificate.serial_number not in {one.serial_number for one in crl})

    def _text(self, given: Mapping[str, str], name: str, at: datetime) -> dict[str, Any]:
        chain = pems(given[f"{name}_issuer_chain"].encode())
        need(len(chain) == 2 and chain[1] == self.chain[2])
        signer, root = path(chain, at)
        need(not is_ca(signer))
        names = signer.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        need(names and names[-1].value == "Intel SGX TCB Signing")
        self._check_list(signer, root, "root_ca_crl")
        document = given[name].encode()
        signed(p256(signer), octets(given[f"{name}_signature"], 64), document)
        parsed = strict_json(document, TD["characters of a string of it"])
        need(type(parsed) is dict)
        need_known(time(parsed.get("issueDate")) <= at <= time(parsed.get("nextUpdate")))
        return parsed  # type: ignore[no-any-return]

    def _check_form(self) -> None:
        """Check the types of all values that are read; values that are not read may be anything."""
        info, identity = self.info, self.identity
        holds(info, INFO)
        holds(identity, IDENTITY)
        self.modules = {"": dict(info["tdxModule"], tcbLevels=[])}
        for one in info.get("tdxModuleIdentities", ()):
            self.modules[one["id"]] = one
        self.evaluation = min(one["tcbEvaluationDataNumber"] for one in (info, identity))

    def _check_enclave(self) -> None:
        wanted, qe = self.identity, self.enclave
        for key, value, size in (("miscselect", qe[16:20], 4), ("attributes", qe[48:64], 16)):
            mask = octets(wanted.get(f"{key}Mask"), size)
            need(masked(value, mask) == masked(octets(wanted.get(key), size), mask))
        need(qe[128:160] == octets(wanted.get("mrsigner"), 32))
        need(little(qe[256:258]) == whole(wanted.get("isvprodid")))

    def check_guest(self, maker: Mapping[str, Any]) -> None:
        attributes = little(self.body[120:128])
        need(not attributes & 0xFF and not attributes >> 29 & 1)
        need_known({bit for bit in range(64) if attributes >> bit & 1} <= HARMLESS)
        need_known(not any(self.body[600:648]))
        need(self.evaluation >= maker.get("minimum-evaluation", 0))
        minor, major = self.svn[:2]
        processor = self._processor()
        name = f"TDX_{major:02X}" if major else ""
        need_known(name in self.modules)
        module = self.modules[name]
        mask = octets(module.get("attributesMask"), 8)
        need(self.body[64:112] == octets(module.get("mrsigner"), 48))
        need(masked(self.body[112:120], mask) == masked(octets(module.get("attributes"), 8), mask))
        of_module = self._first(module["tcbLevels"], minor) if major else processor
        of_enclave = self._first(self.identity["tcbLevels"], little(self.enclave[258:260]))
        need({processor, of_module, of_enclave} <= set(maker["statuses"]))

    @staticmethod
    def _first(levels: Sequence[Mapping[str, Any]], svn: int) -> Any:
        return next((one["tcbStatus"] for one in levels if one["tcb"]["isvsvn"] <= svn), None)

    def _processor(self) -> Any:
        skipped = 2 if self.svn[1] else 0
        for level in self.info["tcbLevels"]:
            tcb = level["tcb"]
            pck = [one["svn"] for one in tcb["sgxtcbcomponents"]] + [tcb["pcesvn"]]
            td = [one["svn"] for one in tcb["tdxtcbcomponents"]]
            fits = all(least <= own for least, own in zip(pck, self.tcb, strict=True))
            if fits and all(td[n] <= self.svn[n] for n in range(skipped, 16)):
                return level["tcbStatus"]
        return None

    def check_td(self, accepted: Sequence[Mapping[str, Any]], at: datetime) -> None:
        today, registers = f"{at:%Y-%m-%d}", [self.body[136:184], *self.rtmrs]
        for one in accepted:
            keys = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
            values = [bytes.fromhex(one.get(key, ZERO.hex())) for key in keys]
            if values == registers and today <= one.get("until", today):
                return
        raise NoError("td")

    def check_bare(self, nonce: bytes, key: Any) -> None:
        public = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        need(self.body[520:584] == hashlib.sha512(b"aicert td v1\0" + nonce + public).digest())
