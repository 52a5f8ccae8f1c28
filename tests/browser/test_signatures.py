"""The stand-in verifies exactly the signatures that `cryptography` verifies.

The original makes keys and signatures; numbers near every limit are tried with both.
"""

import random
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from browser.crypto import ec as own_ec
from browser.crypto import ed25519 as own_ed25519
from browser.crypto import hashes as own_hashes
from browser.crypto import rsa as own_rsa
from browser.crypto import serialization as own_serialization
from browser.crypto.curves import BY_NAME
from browser.crypto.errors import InvalidSignatureError
from browser.crypto.keys import load_der_public_key
from tests.adversarial.ca_forge import ec_key, ecdsa, rsa_key

DATA = b"what was signed"
HASHES: tuple[tuple[hashes.HashAlgorithm, own_hashes.HashAlgorithm], ...] = (
    (hashes.SHA256(), own_hashes.SHA256()),
    (hashes.SHA384(), own_hashes.SHA384()),
    (hashes.SHA512(), own_hashes.SHA512()),
    (hashes.SHA3_256(), own_hashes.SHA3256()),
)


SIGNED = [pytest.param(pair, id=pair[0].name) for pair in HASHES]
HashPair = tuple[hashes.HashAlgorithm, own_hashes.HashAlgorithm]


def accepts(verify: Callable[..., None], *arguments: object) -> bool:
    try:
        verify(*arguments)
    except (InvalidSignature, InvalidSignatureError):
        return False
    return True


def spoiled(signature: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield the signature, and near misses."""
    yield signature
    yield from (b"", signature[:-1], signature + b"\0", b"\0" + signature, signature[1:])
    for _ in range(16):
        changed = bytearray(signature)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        yield bytes(changed)


def both(
    theirs: rsa.RSAPublicKey, signature: bytes, salt: int | None, mask: HashPair, pair: HashPair
) -> bool:
    """Return whether both accept an RSA signature; `salt` is for PSS."""
    numbers = theirs.public_numbers()
    ours = own_rsa.RSAPublicKey(numbers.n, numbers.e)
    if salt is None:
        ways: tuple[padding.AsymmetricPadding, own_rsa.PKCS1v15 | own_rsa.PSS] = (
            padding.PKCS1v15(), own_rsa.PKCS1v15(),
        )  # fmt: skip
    else:
        automatic = salt == own_rsa.PSS.AUTO
        ways = (
            padding.PSS(padding.MGF1(mask[0]), padding.PSS.AUTO if automatic else salt),
            own_rsa.PSS(own_rsa.MGF1(mask[1]), salt),
        )
    good = accepts(theirs.verify, signature, DATA, ways[0], pair[0])
    assert accepts(ours.verify, signature, DATA, ways[1], pair[1]) == good
    return good


# With 1025 bits, the PSS encoding has one octet less than the modulus; 1030 leaves spare bits.
@pytest.mark.parametrize("bits", [1024, 1025, 1030])
@pytest.mark.parametrize("pair", SIGNED)
def test_rsa_with_pkcs1(bits: int, pair: HashPair) -> None:
    rng = random.Random(bits)  # noqa: S311 - to repeat, not to hide
    key = rsa_key("stand-in", bits)
    signatures = spoiled(key.sign(DATA, padding.PKCS1v15(), pair[0]), rng)
    verdicts = [both(key.public_key(), one, None, pair, pair) for one in signatures]
    assert (verdicts[0], sum(verdicts)) == (True, 1)


@pytest.mark.parametrize("bits", [1024, 1025, 1030])
@pytest.mark.parametrize("pair", SIGNED)
@pytest.mark.parametrize("mask", SIGNED[:2])
def test_rsa_with_pss(bits: int, pair: HashPair, mask: HashPair) -> None:
    rng = random.Random(bits)  # noqa: S311 - to repeat, not to hide
    key = rsa_key("stand-in", bits)
    size = pair[0].digest_size
    most = (bits - 1 + 7) // 8 - size - 2
    for salt in sorted({0, 1, min(size, most), most}):
        signature = key.sign(DATA, padding.PSS(padding.MGF1(mask[0]), salt), pair[0])
        for asked in (own_rsa.PSS.AUTO, 0, 1, size, most, most + 1, 65535):
            accepted = both(key.public_key(), signature, asked, mask, pair)
            assert accepted == (asked in (own_rsa.PSS.AUTO, salt))
        assert not both(key.public_key(), signature, own_rsa.PSS.AUTO, HASHES[2], pair)
        assert not both(key.public_key(), signature, None, mask, pair)
        verdicts = [both(key.public_key(), one, -1, mask, pair) for one in spoiled(signature, rng)]
        # A leading zero may be left out, which occurs in one signature of 256.
        assert (verdicts[0], sum(verdicts)) == (True, 2 if signature[0] == 0 else 1)


def test_rsa_with_pss_without_a_zero_at_the_beginning() -> None:
    key, pair = rsa_key("stand-in", 1024), HASHES[0]
    way = padding.PSS(padding.MGF1(pair[0]), 32)
    signature = next(one for _ in count() if not (one := key.sign(DATA, way, pair[0]))[0])
    assert both(key.public_key(), signature[1:], own_rsa.PSS.AUTO, pair, pair)
    assert not both(key.public_key(), signature[2:], own_rsa.PSS.AUTO, pair, pair)


def raised(key: rsa.RSAPrivateKey, encoded: bytes) -> bytes:
    """Return the signature for this encoding, whatever it contains."""
    numbers = key.private_numbers()
    n = numbers.public_numbers.n
    number = int.from_bytes(encoded) % n
    return pow(number, numbers.d, n).to_bytes((n.bit_length() + 7) // 8)


def test_rsa_encodings_that_are_nearly_right() -> None:
    key = rsa_key("ak")
    pair = HASHES[0]
    hashed = own_hashes.digest(pair[1], DATA)
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    no_null = bytes.fromhex("302f300b06096086480165030402010420")
    long_form = bytes.fromhex("308131300d060960864801650304020105000420")
    right = b"\0\1" + b"\xff" * (253 - len(info) - 32) + b"\0" + info + hashed
    assert len(right) == 256
    wrong = (
        b"\0\1" + b"\xff" * 8 + b"\0" + info + hashed + bytes(256 - 11 - len(info) - 32),
        b"\0\1" + b"\xff" * (253 - len(no_null) - 32) + b"\0" + no_null + hashed,
        b"\0\1" + b"\xff" * (253 - len(long_form) - 32) + b"\0" + long_form + hashed,
        b"\0\2" + right[2:], b"\0\0" + right[2:], right[:-1] + b"\0",
        b"\0\1" + b"\xff" * 221 + b"\0" + hashed, right[:5] + b"\0" + right[6:],
    )  # fmt: skip
    assert both(key.public_key(), raised(key, right), None, pair, pair)
    for encoded in wrong:
        assert not both(key.public_key(), raised(key, encoded), None, pair, pair)


def test_rsa_moduli_that_nobody_has() -> None:
    """An even modulus, for which anybody can sign; large exponents; a signature above modulus."""
    pair = HASHES[0]
    key = rsa_key("ak")
    n = key.public_key().public_numbers().n
    signature = key.sign(DATA, padding.PKCS1v15(), pair[0])
    above = (int.from_bytes(signature) + n).to_bytes(257)
    assert not both(key.public_key(), above, None, pair, pair)
    assert not both(key.public_key(), above[1:], None, pair, pair)
    info = bytes.fromhex("3031300d060960864801650304020105000420")
    hashed = own_hashes.digest(pair[1], DATA)
    # Modulo a power of two, an odd number has a root of every odd degree.
    modulus, exponent = 1 << 2047, 65537
    encoded = b"\0\1" + b"\xff" * (253 - len(info) - 32) + b"\0" + info + hashed
    root = pow(int.from_bytes(encoded) % modulus, pow(exponent, -1, modulus >> 2), modulus)
    numbers = rsa.RSAPublicNumbers(exponent, modulus)
    odd = int.from_bytes(encoded) % 2
    forged = root.to_bytes(256)
    assert not both(numbers.public_key(), forged, None, pair, pair)
    assert not odd or pow(root, exponent, modulus) == int.from_bytes(encoded)
    for bits, size in ((2048, 2047), (3072, 80), (3080, 80), (3080, 64)):
        large = rsa.RSAPublicNumbers((1 << (size - 1)) + 1, (1 << (bits - 1)) + 1).public_key()
        assert not both(large, bytes(bits // 8 - 1) + b"\1", None, pair, pair)


CURVES: dict[str, ec.EllipticCurve] = {
    "secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1(),
}  # fmt: skip


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("pair", SIGNED)
def test_ecdsa(name: str, pair: HashPair) -> None:
    rng = random.Random(name)  # noqa: S311 - to repeat, not to hide
    curve = BY_NAME[name]
    for secret in (1, 2, curve.n - 1, rng.randrange(1, curve.n)):
        key = ec.derive_private_key(secret, CURVES[name])
        theirs = key.public_key()
        numbers = theirs.public_numbers()
        ours = own_ec.EllipticCurvePublicNumbers(numbers.x, numbers.y, curve).public_key()
        signature = key.sign(DATA, ecdsa(pair[0]))
        r, s = utils.decode_dss_signature(signature)
        assert own_ec.decode_dss_signature(signature) == (r, s)
        assert own_ec.encode_dss_signature(r, s) == signature
        near = (
            (r, curve.n - s), (r + curve.n, s), (0, s), (r, 0), (curve.n, s), (r, curve.n), (s, r),
            (r, s + curve.n), (1, 1), (curve.n - r, s),
        )  # fmt: skip
        signatures = [utils.encode_dss_signature(*pair_) for pair_ in near]
        long_form = (
            b"\x30\x81" + signature[1:] if signature[1] < 0x80 else b"\x30\x82\0" + signature[2:]
        )
        negative = b"\x30\6\2\1\xff\2\1\1"
        padded = (
            b"\x30"
            + bytes((signature[1] + 1,))
            + b"\2"
            + bytes((signature[3] + 1,))
            + b"\0"
            + signature[4:]
        )
        seen = set()
        for one in (*spoiled(signature, rng), *signatures, long_form, negative, padded):
            good = accepts(theirs.verify, one, DATA, ec.ECDSA(pair[0]))
            assert accepts(ours.verify, one, DATA, own_ec.ECDSA(pair[1])) == good, one.hex()
            seen.add(good)
        assert seen == {True, False}
        # Both of the two signatures that a key's holder can derive from one.
        assert accepts(ours.verify, signatures[0], DATA, own_ec.ECDSA(pair[1]))


def test_keys_are_written_alike() -> None:
    for name, curve in CURVES.items():
        theirs = ec.derive_private_key(12345, curve).public_key()
        numbers = theirs.public_numbers()
        ours = own_ec.EllipticCurvePublicNumbers(numbers.x, numbers.y, BY_NAME[name]).public_key()
        for encoding, form in (
            ("DER", "SubjectPublicKeyInfo"), ("PEM", "SubjectPublicKeyInfo"),
            ("X962", "CompressedPoint"), ("X962", "UncompressedPoint"),
        ):  # fmt: skip
            written = theirs.public_bytes(
                getattr(serialization.Encoding, encoding), getattr(serialization.PublicFormat, form)
            )
            own = own_serialization.Encoding[encoding], own_serialization.PublicFormat[form]
            assert ours.public_bytes(*own) == written
            if form != "SubjectPublicKeyInfo":
                point = own_ec.EllipticCurvePublicKey.from_encoded_point(BY_NAME[name], written)
                assert point == ours
        der = theirs.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert load_der_public_key(der) == ours


def test_ed25519() -> None:
    rng = random.Random(25519)  # noqa: S311 - to repeat, not to hide
    for seed in range(4):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes((seed,)) * 32)
        theirs = key.public_key()
        octets = theirs.public_bytes_raw()
        ours = own_ed25519.Ed25519PublicKey.from_public_bytes(octets)
        signature = key.sign(DATA)
        above = int.from_bytes(signature[32:], "little") + own_ed25519.ORDER
        again = signature[:32] + above.to_bytes(32, "little")
        verdicts = []
        for one in (*spoiled(signature, rng), again, bytes(64)):
            good = accepts(theirs.verify, one, DATA)
            assert accepts(ours.verify, one, DATA) == good
            verdicts.append(good)
        assert sum(verdicts) == 1


def test_ed25519_keys_that_are_odd() -> None:
    """Points of small order, y above the prime, and no point at all: RFC 8032 leaves these open."""
    p = own_ed25519.P
    numbers = [0, 1, 2, p - 1, p, p + 1, 2**255 - 1, (p - 1) | 1 << 255, 1 | 1 << 255, 1 << 255]
    small = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    keys = [number.to_bytes(32, "little") for number in numbers] + [small]
    for octets in keys:
        theirs = ed25519.Ed25519PublicKey.from_public_bytes(octets)
        ours = own_ed25519.Ed25519PublicKey(octets)
        for first in (*keys, bytes(32)):
            for s in (0, 1, own_ed25519.ORDER - 1, own_ed25519.ORDER):
                signature = first + s.to_bytes(32, "little")
                good = accepts(theirs.verify, signature, DATA)
                assert accepts(ours.verify, signature, DATA) == good, (octets.hex(), first.hex(), s)


def test_known_keys_by_hand() -> None:
    # A signature of a test CA, verified by both.
    theirs = ec_key("ca").public_key()
    der = theirs.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert isinstance(load_der_public_key(der), own_ec.EllipticCurvePublicKey)
    with pytest.raises(ValueError, match="extra data"):
        load_der_public_key(der + b"\0")
