"""Certificates that are unusual in one place each, which random changes would not produce.

Each is a whole certificate with one part inserted by hand. The library decides whether it is valid.
"""

from collections.abc import Iterator

from browser.crypto import algorithms
from browser.crypto.curves import BY_NAME
from browser.crypto.der import encoded, encoded_integer, encoded_oid
from browser.crypto.rsa import RSA

SHA256_WITH_ECDSA = encoded(0x30, encoded_oid("1.2.840.10045.4.3.2"))
POINT = b"\4" + b"".join(
    number.to_bytes(32) for number in (BY_NAME["secp256r1"].gx, BY_NAME["secp256r1"].gy)
)
EC, P256 = encoded_oid("1.2.840.10045.2.1"), encoded_oid("1.2.840.10045.3.1.7")
MODULUS = 3**1292 | 1 << 2047 | 1


def attribute(oid: str, tag: int, value: bytes) -> bytes:
    return encoded(0x30, encoded_oid(oid) + encoded(tag, value))


def name(*sets: bytes) -> bytes:
    return encoded(0x30, b"".join(encoded(0x31, one) for one in sets))


def key(kind: bytes, bits: bytes, unused: int = 0) -> bytes:
    return encoded(0x30, encoded(0x30, kind) + encoded(3, bytes((unused,)) + bits))


def rsa_key(modulus: int, exponent: int) -> bytes:
    numbers = encoded(0x30, encoded_integer(modulus) + encoded_integer(exponent))
    return key(encoded_oid(RSA) + b"\5\0", numbers)


def certificate(
    *,
    start: bytes = encoded(0x17, b"250101000000Z"),
    end: bytes = encoded(0x17, b"350101000000Z"),
    subject: bytes = name(attribute("2.5.4.3", 12, b"b")),
    rest: bytes = b"",
    serial: bytes = b"\2\1\1",
    version: bytes = b"\xa0\3\2\1\2",
    algorithm: bytes = SHA256_WITH_ECDSA,
    public_key: bytes = key(EC + P256, POINT),
) -> bytes:
    # Shorter certificates are refused for their length, and then nothing else is checked.
    units = (attribute("2.5.4.11", 12, b"%d" % unit + b"a" * 60) for unit in range(4))
    issuer = name(attribute("2.5.4.3", 12, b"a"), *units)
    parts = (version, serial, algorithm, issuer, encoded(0x30, start + end), subject, public_key)
    signed = encoded(0x30, b"".join(parts) + rest)
    return encoded(0x30, signed + algorithm + encoded(3, bytes(200)))


def extensions(*values: tuple[str, bytes]) -> bytes:
    """Return extensions in the form that ends a certificate."""
    listed = (encoded(0x30, encoded_oid(oid) + encoded(4, value)) for oid, value in values)
    return encoded(0xA3, encoded(0x30, b"".join(listed)))


UTC_TIMES = (
    b"500101000000Z", b"490101000000Z", b"2501010000Z", b"250101000000", b"250101000000+0000",
    b"250101000060Z", b"250230000000Z", b"240229000000Z", b"251301000000Z", b"250101240000Z",
    b"2501010000 0Z", b"250101000000z", b"\xb2\xb501010000000Z"[:13],
)  # fmt: skip
GENERALIZED_TIMES = (
    b"20250101000000Z", b"20500101000000Z", b"19490101000000Z", b"00000101000000Z",
    b"00000229000000Z", b"00010101000000Z", b"99991231235959Z", b"20510101000000.5Z",
    b"205101010000Z", b"20510229000000Z", b"20510101000000+00",
)  # fmt: skip
# Values in hex, by the extension's identifier.
VALUES: dict[str, tuple[str, ...]] = {
    "2.5.29.19": (  # basicConstraints
        "3000", "30030101ff", "3003010100", "30060101ff020100", "3003020100",
        "300e0101ff020900ffffffffffffffff", "300f0101ff020a00ffffffffffffffffff",
        "30060101ff0201ff", "300000", "30080101ff0201000500", "3003020101", "0500",
    ),
    "2.5.29.15": (  # keyUsage
        "0300", "030100", "030101", "03020780", "03020781", "030308", "0303078080", "03030780ff",
        "03020700", "03020106", "0304000101ff", "03030788 80", "03020908",
    ),
    "2.5.29.37": ("3000", "300406022a03", "300806022a0306022a03", "30020600"),
    "2.5.29.14": ("0400", "0500", "04020102"),
    "2.5.29.35": (  # authorityKeyIdentifier
        "3000", "30028000", "3003820101", "3004a1028200", "3002a100", "3007a1028200820101",
        "3005a100820101", "30038201ff", "3007a1028200820180", "3007a102a300820101",
        "300ba106a404300231008201 01",
    ),
    "2.5.29.17": (  # subjectAltName
        "3000", "30028200", "3003820180", "30048202c3a9", "3002a300", "3002a500",
        "3006870401020304", "3003870101", "300a870801020304ffffff00", "300a870801020300ffffff00",
        "300a870801020300ff00ff00", "30078705010203 0405", "30028700",
        "30128710" + "00" * 16, "30228720" + "00" * 32,
        "30228720" + "00" * 16 + "ff" * 8 + "00" * 8,
        "3003880129", "30028800", "3002a000", "3009a00706012aa0020500", "3007a00506012aa000",
        "3004a4023000", "3002a400", "3003a9012a", "30030c0161", "3006a40430023100",
    ),
    "2.5.29.18": ("3000", "30028200", "0500"),
    "1.3.6.1.5.5.7.1.24": ("3000", "3003020105", "3003020106", "3003020111", "30030201ff"),
    "1.3.6.1.4.1.11129.2.4.3": ("0500", "0400", "050100"),
    "1.3.6.1.5.5.7.48.1.5": ("0500", "0400"),
    "2.5.29.36": (  # policyConstraints
        "3000", "3003800101", "3003810101", "30038001ff", "300b80090100000000000000" + "00",
        "3006800101810101", "3006810101800101",
    ),
    "2.5.29.54": ("020100", "0201ff", "02020001", "020a01000000000000000000"),
    "2.5.29.30": (  # nameConstraints
        "3000", "3002a000", "3004a0023000", "3006a00430028200", "3007a005300382012a",
        "300aa0083006870401020304", "300ea00c300a870801020300ffffff00", "3009a00730058200800100",
        "3009a00730058200800101", "3009a00730058200810101", "3002a100", "3007a105300382012a",
    ),
    "2.5.29.31": (  # cRLDistributionPoints
        "3000", "30023000", "30043002a000", "30063004a002a000", "30083006a004a0028200",
       "30063004a002a100", "300530038102 01", "30053003810102", "30063004a2028200",
        "30043002a200", "300b3009a004a0028200810100", "300b3009a004a00282008101ff",
        "30083006a004a002a300", "30063004a0020500",
    ),
    "1.3.6.1.5.5.7.1.1": ("3000", "3008300606022a038600", "3008300606022a03a300", "30023000"),
    "1.3.6.1.5.5.7.1.11": ("3000", "3008300606022a038600"),
    "2.5.29.16": (  # privateKeyUsagePeriod
        "3000", "3011800f" + b"20250101000000Z".hex(), "3011810f" + b"20250101000000Z".hex(),
        "3022800f" + b"20250101000000Z".hex() + "810f" + b"20240101000000Z".hex(),
        "3011800f" + b"00000101000000Z".hex(), "300f800d" + b"250101000000Z".hex(),
    ),
    "1.3.6.1.4.1.311.21.7": (  # Microsoft's certificate templates
        "300406022a03", "300a06022a03020101020101", "300706022a030201ff",
        "300b06022a0302050100000000", "300706022a03020101",
    ),
}  # fmt: skip
_CPS, _NOTICE = encoded_oid("1.3.6.1.5.5.7.2.1"), encoded_oid("1.3.6.1.5.5.7.2.2")
_TEXTS = (
    (12, b"\xe9"), (12, b"a"), (22, b"a"), (22, b"\x80"), (26, b"a"), (26, b"\xc3\xa9"),
    (26, b"\xe9"), (30, b"\0a"), (30, b"a"), (19, b"a"),
)  # fmt: skip


_LONG = b"\xff" * 17 + b"\x7f"
OIDS = (
    b"\x2a" * 63, b"\x2a" * 64, b"\x80\1", b"\x2a\x80", b"\x2a\x87" + _LONG, b"\x2a\x83" + _LONG,
    b"\x8f\x7f", b"",
)  # fmt: skip


def policies() -> Iterator[bytes]:
    """Yield values of certificatePolicies."""
    bodies = [b"", b"\x30\0", b"\x16\1a", b"\x16\1\x80", b"\x0c\1a"]
    bodies += [encoded(0x30, encoded(tag, text)) for tag, text in _TEXTS]
    for tag, text in _TEXTS:
        for number in (b"", b"\2\1\1", b"\2\1\xff", b"\5\0"):
            bodies.append(encoded(0x30, encoded(0x30, encoded(tag, text) + encoded(0x30, number))))
    yield b"\x30\0"
    for oid in (_CPS, _NOTICE, encoded_oid("1.2.3")):
        for body in bodies:
            qualifier = encoded(0x30, encoded(0x30, oid + body))
            yield encoded(0x30, encoded(0x30, encoded_oid("1.2.3") + qualifier))


def timestamps() -> Iterator[bytes]:
    """Yield values of the list of signed certificate timestamps (RFC 6962)."""
    good = bytes(43) + b"\4\3" + b"\0\1a"
    odd = (
        good, b"\1" + good[1:], good[:-1], good + b"x", good[:43] + b"\x09\3\0\1a", b"",
        good[:43] + b"\4\x09\0\1a", good[:41] + b"\0\1e" + good[43:], good[:43], good[:44],
        good[:43] + b"\0\0\0\1a", good[:33] + b"\xff" * 8 + good[41:], good[:40], good[:45],
    )  # fmt: skip
    for one in odd:
        listed = len(one).to_bytes(2) + one
        yield encoded(4, len(listed).to_bytes(2) + listed)
    yield from (encoded(4, b""), encoded(4, b"\0\0"), encoded(4, b"\0\0x"), encoded(4, b"\0\1x"))


def names() -> Iterator[bytes]:
    """Yield subjects."""
    for tag in (1, 2, 3, 4, 5, 12, 18, 19, 20, 22, 23, 24, 26, 27, 28, 29, 30, 0x30, 0x80):
        yield name(attribute("2.5.4.3", tag, b"abcd"))
    texts = (
        (19, b"a@b"), (20, b"\xe9"), (22, b"\xc3\xa9"), (30, b"abc"), (30, b"\xd8\0ab"),
        (28, b"\0\x11\0\0"), (28, b"\0\0\0a"), (12, b"\xed\xa0\x80"), (12, b""), (12, b" "),
        (12, b"#a, b+c;d<e>f\\g\"\0 "), (12, b"x" * 65),
    )  # fmt: skip
    yield from (name(attribute("2.5.4.3", tag, text)) for tag, text in texts)
    yield from (name(attribute("2.5.4.45", tag, b"ab")) for tag in (3, 12))
    yield from (name(attribute("2.5.4.6", tag, text)) for tag in (3, 19) for text in (b"a", b"abc"))
    one, two, short = (attribute("2.5.4.3", 12, text) for text in (b"a", b"b", b""))
    yield from (
        name(one + two),
        name(two + one),
        name(one + one),
        name(one + short),
        name(),
        name(b""),
    )
    yield name(one + attribute("2.5.4.3", 19, b"a"))
    yield name(one, attribute("0.9.2342.19200300.100.1.25", 22, b"x"), attribute("1.2.3", 12, b"y"))
    yield name(encoded(0x30, encoded_oid("2.5.4.3") + b"\x1f\x1f\1a"))


def keys() -> Iterator[bytes]:
    """Yield public keys."""
    x, y = POINT[1:33], POINT[33:]
    odd = y[-1] & 1
    points = (
        POINT, bytes((2 + odd,)) + x, bytes((3 - odd,)) + x, bytes((6 + odd,)) + x + y,
        bytes((7 - odd,)) + x + y, b"\0", b"", b"\0\0", POINT[:-1], POINT + b"\0", b"\5" + x + y,
        POINT[:-1] + bytes((y[-1] ^ 1,)), b"\2" + b"\xff" * 32, b"\2" + bytes(32),
    )  # fmt: skip
    yield from (key(EC + P256, point) for point in points)
    yield from (key(EC + P256, b"\2" + number.to_bytes(32)) for number in range(1, 9))
    yield key(EC + P256, POINT[:-1] + bytes((y[-1] & 0xFE,)), 1)
    for curve in (
        "1.3.132.0.34",
        "1.3.132.0.33",
        "1.2.840.10045.3.1.1",
        "1.3.132.0.36",
        "1.3.132.0.1",
    ):
        yield key(EC + encoded_oid(curve), POINT)
    for kind in (b"\5\0", b"\5\1\0", b"\x30\0", b"", b"\2\1\1", P256 + b"\5\0"):
        yield key(EC + kind, POINT)
    for exponent in (0, 1, 2, 3, 4, 65536, 65537, 2**64 + 1, MODULUS, MODULUS + 2):
        yield rsa_key(MODULUS, exponent)
    for modulus in (0, 1, 3, 15, 2**511 + 1, 2**2046 + 1, 2**2047, 2**4095 + 1, 2**4096 + 1):
        yield rsa_key(modulus, 65537)
    for kind in (b"", b"\2\1\1", b"\5\0"):
        yield key(encoded_oid(RSA) + kind, encoded(0x30, b"\2\1\7\2\1\3"))
        yield key(encoded_oid(algorithms.RSASSA_PSS) + kind, encoded(0x30, b"\2\1\7\2\1\3"))
    for body in (b"", b"\2\1\1", b"\x30\5\2\1\1", b"\x30\6\2\1\xff\2\1\3", b"\x30\7\2\2\0\7\2\1\3"):
        yield key(encoded_oid(RSA) + b"\5\0", body)
    sizes = {
        algorithms.ED25519: 32, algorithms.ED448: 57, algorithms.X25519: 32, algorithms.X448: 56,
        algorithms.ML_DSA[0]: 1312, algorithms.ML_DSA[2]: 2592, algorithms.ML_KEM[0]: 1184,
        f"{algorithms.ML_KEM[0][:-1]}1": 800, "1.2.3.4": 0, "2.16.840.1.101.3.4.2.1": 0,
        "1.2.840.10045.4.3.2": 0, "1.2.840.113549.1.1.4": 0,
    }  # fmt: skip
    for oid, size in sizes.items():
        for kind in (b"", b"\5\0", b"\2\1\1\2\1\1"):
            yield key(encoded_oid(oid) + kind, bytes(size))
        yield key(encoded_oid(oid), bytes(max(0, size - 1)))


def groups() -> Iterator[bytes]:
    """Yield keys of DSA, and of Diffie-Hellman with an invalid key or group."""
    numbers = [encoded_integer(one) for one in (23, 5, 11, 2, 2**40)]
    check = encoded(0x30, b"\3\2\0a\2\1\5")
    none, one, two, three, four, five = (b"".join(numbers[:count]) for count in range(6))
    large = two + numbers[4]
    bodies = (none, one, two, three, four, five, two + check, three + check, four + check, check,
              large, b"\2\1\xff" + two, two + b"\2\1\xff")  # fmt: skip
    # For these the original knows whether they are valid, and the stand-in gives no verdict.
    readable = {
        algorithms.DSA: (),
        algorithms.DH: (two, three),
        algorithms.DHX: (three, four, large, three + check, four + check),
    }
    for oid, good in readable.items():
        for bits in (b"\2\1\7", b"zz", b"\2\1\xff", b""):
            for beside in (b"", b"\5\0", b"\2\1\1"):
                yield key(encoded_oid(oid) + beside, bits)
            for body in bodies:
                if bits != b"\2\1\7" or body not in good:
                    yield key(encoded_oid(oid) + encoded(0x30, body), bits)


def signature_algorithms() -> Iterator[bytes]:
    """Yield AlgorithmIdentifiers of signatures, with valid and invalid parameters."""
    plain = (
        "1.2.840.10045.4.3.1", "1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3", "1.2.840.10045.4.1",
        "1.2.840.10045.4.3.9", "1.2.840.113549.1.1.11", "1.2.840.113549.1.1.5",
        "1.2.840.113549.1.1.4", "1.3.14.3.2.29", "1.2.840.113549.1.1.14", "1.3.101.112", "1.2.3",
        "1.3.6.1.5.5.7.6.36", "1.2.643.2.2.3", "2.16.840.1.101.3.4.3.2", "2.16.840.1.101.3.4.3.10",
        "2.16.840.1.101.3.4.3.14", "2.16.840.1.101.3.4.3.17", "1.2.840.10040.4.3",
    )  # fmt: skip
    for oid in plain:
        for beside in (b"", b"\5\0", b"\2\1\1", b"\5\0\5\0"):
            yield encoded(0x30, encoded_oid(oid) + beside)
    known = {"1.3.14.3.2.26", "1.2.3", "1.2.840.113549.2.5", *algorithms.HASHES}
    hashes = [
        encoded(0x30, encoded_oid(oid) + null) for oid in sorted(known) for null in (b"", b"\5\0")
    ]
    masks = [
        encoded(0x30, encoded_oid(oid) + hash_)
        for oid in (algorithms.MGF1, "1.2.3")
        for hash_ in hashes
    ]
    numbers = [b"\2\1\x14", b"\2\1\x20", b"\2\3\1\0\0", b"\2\1\xff", b"\2\1\1", b"\2\2\1\0"]
    parameters = [b"", encoded(0xA0, hashes[0]) + encoded(0xA2, numbers[1])]
    parameters += [encoded(0xA0, one) for one in hashes] + [encoded(0xA1, one) for one in masks]
    parameters += [encoded(tag, one) for tag in (0xA2, 0xA3, 0xA4) for one in numbers]
    pss = encoded_oid(algorithms.RSASSA_PSS)
    yield from (encoded(0x30, pss), encoded(0x30, pss + b"\5\0"))
    yield from (encoded(0x30, pss + encoded(0x30, one)) for one in parameters)


def certificates() -> Iterator[bytes]:
    """Yield all of these certificates."""
    yield certificate()
    yield from (certificate(start=encoded(0x17, text)) for text in UTC_TIMES)
    yield from (certificate(end=encoded(0x18, text)) for text in GENERALIZED_TIMES)
    yield certificate(start=encoded(0x19, b"250101000000Z"))
    yield from (certificate(subject=one) for one in names())
    for version in ("", "a003020100", "a003020101", "a003020103", "a00402020100", "a0030201ff"):
        yield certificate(version=bytes.fromhex(version))
    yield from (certificate(serial=one) for one in (b"\2\1\xff", b"\2\1\0", b"\2\2\0\1", b"\2\0"))
    for rest in ("81020001820200 01", "8202000181020001", "81020101", "0500"):
        yield certificate(rest=bytes.fromhex(rest))
    yield from (certificate(public_key=one) for one in keys())
    yield from (certificate(public_key=one) for one in groups())
    yield from (certificate(algorithm=one) for one in signature_algorithms())
    yield certificate(rest=extensions())
    yield certificate(rest=extensions(("1.2.3", b""), ("1.2.3", b"")))
    for oid, values in VALUES.items():
        yield from (certificate(rest=extensions((oid, bytes.fromhex(one)))) for one in values)
    yield from (certificate(rest=extensions(("2.5.29.32", one))) for one in policies())
    for oid in ("2.5.29.17", "2.5.29.18"):
        # An unreadable part is reported before an unknown one.
        unknown = encoded(0x30, encoded(0xA3, b"\5\0"))
        yield certificate(rest=extensions((oid, unknown + unknown)))
    for one in names():
        alternative = encoded(0x30, encoded(0xA4, one) + encoded(0x82, b"b"))
        yield certificate(rest=extensions(("2.5.29.17", alternative)))
    scts = "1.3.6.1.4.1.11129.2.4.2"
    yield from (certificate(rest=extensions((scts, one))) for one in timestamps())
    for dotted in OIDS:
        inner = encoded(0x30, encoded(6, dotted) + encoded(4, b""))
        yield certificate(rest=encoded(0xA3, encoded(0x30, inner)))
    for critical in (b"\1\1\0", b"\1\1\1", b"\1\1\xff", b"\1\0"):
        inner = encoded(0x30, encoded_oid("2.5.29.14") + critical + encoded(4, b"\4\0"))
        yield certificate(rest=encoded(0xA3, encoded(0x30, inner)))
