"""Elliptic curves over prime fields: their parameters, from SEC 2, FIPS 186-5 and RFC 5639.

For curves whose keys the verifier never accepts, this has only the parameters that are needed to
check points: whether a certificate is well-formed does not depend on whether its key is accepted.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """y² = x³ + ax + b over the integers modulo p, of order n, with the base point gx, gy."""

    name: str
    oid: str
    key_size: int
    p: int
    a: int
    b: int
    n: int = 0
    gx: int = 0
    gy: int = 0

    @property
    def octets(self) -> int:
        """The length of a coordinate in bytes."""
        return (self.p.bit_length() + 7) // 8


def _curve(name: str, oid: str, key_size: int, **numbers: str) -> Curve:
    return Curve(
        name=name, oid=oid, key_size=key_size, **{key: int(n, 16) for key, n in numbers.items()}
    )


_ALL = (
    _curve(
        "secp256r1",
        "1.2.840.10045.3.1.7",
        256,
        p="ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        a="ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
        b="5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
        n="ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        gx="6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        gy="4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    ),
    _curve(
        "secp384r1",
        "1.3.132.0.34",
        384,
        p=(
            "ffffffffffffffffffffffffffffffff"
            "fffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff"
        ),
        a=(
            "ffffffffffffffffffffffffffffffff"
            "fffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc"
        ),
        b=(
            "b3312fa7e23ee7e4988e056be3f82d19"
            "181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef"
        ),
        n=(
            "ffffffffffffffffffffffffffffffff"
            "ffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973"
        ),
        gx=(
            "aa87ca22be8b05378eb1c71ef320ad74"
            "6e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"
        ),
        gy=(
            "3617de4a96262c6f5d9e98bf9292dc29"
            "f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"
        ),
    ),
    _curve(
        "secp521r1",
        "1.3.132.0.35",
        521,
        p=(
            "1ff"
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        ),
        a=(
            "1ff"
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
            "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc"
        ),
        b=(
            "51"
            "953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e1"
            "56193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00"
        ),
        n=(
            "1ff"
            "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
            "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
        ),
        gx=(
            "c6"
            "858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dba"
            "a14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66"
        ),
        gy=(
            "118"
            "39296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c"
            "97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650"
        ),
    ),
    _curve(
        "secp192r1",
        "1.2.840.10045.3.1.1",
        192,
        p="fffffffffffffffffffffffffffffffeffffffffffffffff",
        a="fffffffffffffffffffffffffffffffefffffffffffffffc",
        b="64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1",
    ),
    _curve(
        "secp224r1",
        "1.3.132.0.33",
        224,
        p="ffffffffffffffffffffffffffffffff000000000000000000000001",
        a="fffffffffffffffffffffffffffffffefffffffffffffffffffffffe",
        b="b4050a850c04b3abf54132565044b0b7d7bfd8ba270b39432355ffb4",
    ),
    _curve(
        "secp256k1",
        "1.3.132.0.10",
        256,
        p="fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f",
        a="0",
        b="7",
    ),
    _curve(
        "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.7",
        256,
        p="a9fb57dba1eea9bc3e660a909d838d726e3bf623d52620282013481d1f6e5377",
        a="7d5a0975fc2c3057eef67530417affe7fb8055c126dc5c6ce94a4b44f330b5d9",
        b="26dc5c6ce94a4b44f330b5d9bbd77cbf958416295cf7e1ce6bccdc18ff8c07b6",
    ),
    _curve(
        "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.11",
        384,
        p=(
            "8cb91e82a3386d280f5d6f7e50e641df"
            "152f7109ed5456b412b1da197fb71123acd3a729901d1a71874700133107ec53"
        ),
        a=(
            "7bc382c63d8c150c3c72080ace05afa0"
            "c2bea28e4fb22787139165efba91f90f8aa5814a503ad4eb04a8c7dd22ce2826"
        ),
        b=(
            "4a8c7dd22ce28268b39b55416f0447c"
            "2fb77de107dcd2a62e880ea53eeb62d57cb4390295dbc9943ab78696fa504c11"
        ),
    ),
    _curve(
        "brainpoolP512r1",
        "1.3.36.3.3.2.8.1.1.13",
        512,
        p=(
            "aadd9db8dbe9c48b3fd4e6ae33c9fc07cb308db3b3c9d20ed6639cca70330871"
            "7d4d9b009bc66842aecda12ae6a380e62881ff2f2d82c68528aa6056583a48f3"
        ),
        a=(
            "7830a3318b603b89e2327145ac234cc594cbdd8d3df91610a83441caea9863bc"
            "2ded5d5aa8253aa10a2ef1c98b9ac8b57f1117a72bf2c7b9e7c1ac4d77fc94ca"
        ),
        b=(
            "3df91610a83441caea9863bc2ded5d5aa8253aa10a2ef1c98b9ac8b57f1117a7"
            "2bf2c7b9e7c1ac4d77fc94cadc083e67984050b75ebae5dd2809bd638016f723"
        ),
    ),
)

BY_NAME = {curve.name: curve for curve in _ALL}
BY_OID = {curve.oid: curve for curve in _ALL}
