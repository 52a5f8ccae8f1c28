"""The second verifier's confidential machines (docs/spec/confidential.md).

Written from the specification alone; shares no code with `aicert`. It parses the chip's certificate
as DER itself, because libraries do not promise to read its serial number.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.second.chain import NoError, OpenError, load, need, need_known, strip_padding
from tests.second.forms import sha, strict_json
from tests.second.limits import limits

HCL = limits("confidential.md")

PARTS = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
# 1.3.6.1.4.1.3704.1
AMD = bytes.fromhex("2b060104019c7801")
# 1.2.840.113549.1.1.10
PSS_OID = bytes.fromhex("2a864886f70d01010a")
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


def little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def der(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return tag, content and whole encoding of each element of `data`."""
    elements = []
    while data:
        need(len(data) >= 2 and data[1] != 0x80)
        octets = data[1] - 0x80 if data[1] > 0x80 else 0
        need(octets <= 2 and len(data) >= 2 + octets)
        size = int.from_bytes(data[2 : 2 + octets]) if octets else data[1]
        need(not octets or size >= (0, 128, 256)[octets])
        end = 2 + octets + size
        need(end <= len(data))
        elements.append((data[0], data[2 + octets : end], data[:end]))
        data = data[end:]
    return elements


def line_of(name: bytes) -> str:
    """Return the last common name in a distinguished name."""
    line = ""
    for _, one, _ in der(name):
        for _, pair, _ in der(one):
            oid, value = der(pair)
            if oid[1] == b"\x55\4\3":
                line = value[1].decode(errors="replace")
    return line


class Chip:
    """A chip's certificate: the signed bytes, the signature, issuer, validity and extensions."""

    def __init__(self, certificate: bytes) -> None:
        ((_, content, _),) = der(strip_padding(certificate))
        parts = der(content)
        need([tag for tag, _, _ in parts] == [0x30, 0x30, 3] and parts[2][1][:1] == b"\0")
        self.signed, self.signature = parts[0][2], parts[2][1][1:]
        fields = der(parts[0][1])
        tags = [tag for tag, _, _ in fields]
        need(tags == [0xA0, 2, 0x30, 0x30, 0x30, 0x30, 0x30, 0xA3])
        need(fields[0][1] == b"\2\1\2" and fields[1][1] and fields[1][1][0] < 128)
        # The algorithm outside the signed part must equal the one inside.
        need(fields[2][2] == parts[1][2])
        self.algorithm = der(fields[2][1])[0][1]
        self.issuer = fields[3][2]
        self.line = line_of(fields[3][1])
        self.times = [self._time(*one) for one in der(fields[4][1])]
        try:
            self.key = load_der_public_key(fields[6][2])
        except (ValueError, UnsupportedAlgorithm):
            raise NoError("key") from None
        self.says: dict[bytes, bytes] = {}
        for _, one, _ in der(der(fields[7][1])[0][1]):
            parts = der(one)
            need([tag for tag, _, _ in parts] == [6, 4] and parts[0][1] not in self.says)
            self.says[parts[0][1]] = parts[1][1]

    @staticmethod
    def _time(tag: int, content: bytes, _: bytes) -> datetime:
        try:
            form = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}[tag]
            return datetime.strptime(content.decode(), form).replace(tzinfo=UTC)
        except (KeyError, ValueError):
            raise NoError("time") from None

    def tcb(self) -> list[int]:
        numbers = [der(self.says.get(AMD + bytes((3, n)), b"")) for n in (1, 2, 4, 5, 6, 7, 3, 8)]
        need(all(len(one) == 1 and one[0][0] == 2 for one in numbers))
        values = [int.from_bytes(one[0][1], signed=True) for one in numbers]
        need(all(0 <= value < 256 for value in values))
        return values

    def chip_id(self) -> bytes:
        value = self.says.get(AMD + b"\4", b"")
        return value[2:] if value[:2] == b"\4\x40" and len(value) == 66 else value


def issued(signed: bytes, signature: bytes, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, PSS, hashes.SHA384())
            return True
    except InvalidSignature:
        pass
    return False


class Report:
    """The content of NV index 0x01400001: an SNP report and what surrounds it."""

    def __init__(self, data: bytes) -> None:
        need(len(data) >= 1236 and data[:4] == b"HCLA")
        need_known(little(data[4:8]) in (1, 2))
        size, version, kind, hash_, length = (
            little(data[at : at + 4]) for at in range(1216, 1236, 4)
        )
        end = 1236 + length
        need_known(version == 1 and kind in (2, 4) and hash_ == 1)
        need(size == length + 20 and length <= HCL["runtime data"])
        need(little(data[8:12]) == end <= len(data) and not any(data[end:]))
        self.kind, self.snp, self.runtime = kind, data[32:1216], data[1236:end]

    def check_snp(self) -> None:
        flags = self._number(0x48)
        need_known(self._number(0) in (2, 3, 4, 5) and self._number(0x34) == 1)
        self.signing_key = flags >> 2 & 7
        need(not flags & 2 and self.signing_key != 7)
        need_known(self.signing_key < 2)

    def _number(self, at: int, size: int = 4) -> int:
        return little(self.snp[at : at + size])

    def check_chip(
        self, certificate: bytes, roots: Sequence[Mapping[str, Any]], at: datetime
    ) -> Mapping[str, Any]:
        """Check the certificate of the key that signed the report. Return the policy's table of the
        maker that vouches for it.
        """
        kinds = ["vlek" if one.get("key") == "vlek" else "vcek" for one in roots]
        wanted = ("vcek", "vlek")[self.signing_key]
        need_known(wanted == "vcek" or wanted in kinds)
        chip = Chip(certificate)
        need_known(chip.algorithm == PSS_OID)
        named = False
        for given, kind in zip(roots, kinds, strict=True):  # noqa: B007 - used after
            ask, ark = load(given["issuer"]), load(given["root"])
            same = chip.issuer == ask.subject.public_bytes()
            named = named or same
            if same and issued(chip.signed, chip.signature, ask):
                break
        else:
            if named or chip.line in ("SEV-Genoa", "SEV-Milan"):
                raise NoError("maker")
            raise OpenError
        need(kind == wanted)
        need(issued(ask.tbs_certificate_bytes, ask.signature, ark))
        need(all(c.not_valid_before_utc <= at <= c.not_valid_after_utc for c in (ask, ark)))
        need(chip.times[0] <= at <= chip.times[1])
        key = chip.key
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
            raise NoError("curve")
        need(AMD + b"\5" in chip.says or wanted == "vcek")
        need(wanted == "vlek" or chip.chip_id() == self.snp[0x1A0:0x1E0])
        need(bytes(chip.tcb()) == self.snp[0x180:0x188])
        r, s = (self._number(at, 72) for at in (0x2A0, 0x2A0 + 72))
        try:
            key.verify(
                utils.encode_dss_signature(r, s), self.snp[:0x2A0], ec.ECDSA(hashes.SHA384())
            )
        except InvalidSignature:
            raise NoError("report") from None
        return given

    def check_guest(self, least: Mapping[str, int]) -> None:
        policy = self._number(8, 8)
        need(policy >> 17 & 0b111 == 0b001)
        need(self._number(0x30) == 0)
        need_known(policy >> 26 == 0)
        need(all(self.snp[0x180 + place] >= least[part] for part, place in PARTS.items()))

    def check_launch(self, launches: Sequence[Mapping[str, Any]], chip: str, at: datetime) -> None:
        signer, svn, today = self.snp[0xE0:0x110].hex(), self._number(4), f"{at:%Y-%m-%d}"
        here = [one for one in launches if one.get("chip", chip) == chip]
        now = [one for one in here if today <= one.get("until", today)]
        need(any(one["id-key"] == signer and one.get("minimum-svn", 0) <= svn for one in now))

    def check_binding(self, key: Any, covered: bytes) -> None:
        need(covered == sha(self.runtime) + bytes(32))
        document = strict_json(self.runtime, HCL["runtime data"])
        need(type(document) is dict and type(document.get("keys")) is list)
        need(len(document["keys"]) <= 8 and all(type(one) is dict for one in document["keys"]))
        names = [one.get("kid", "") for one in document["keys"]]
        need(all(type(name) is str for name in names) and names.count("HCLAkPub") == 1)
        jwk = document["keys"][names.index("HCLAkPub")]
        need(type(jwk.get("kty")) is str)
        need_known(jwk["kty"] == "RSA")
        need(isinstance(key, rsa.RSAPublicKey))
        numbers = key.public_numbers()
        need((self._unbase64url(jwk.get("n")), self._unbase64url(jwk.get("e"))) ==
             (numbers.n, numbers.e))  # fmt: skip

    @staticmethod
    def _unbase64url(text: Any) -> int:
        need(type(text) is str and re.fullmatch("[A-Za-z0-9_-]+", text))
        need(len(text) <= HCL["characters of `n`, and of `e`"])
        need(len(text) % 4 != 1)
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        need(base64.urlsafe_b64encode(data).decode().rstrip("=") == text)
        return int.from_bytes(data)
