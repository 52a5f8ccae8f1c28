"""Cases for `judging.py`: the corpus, randomly changed and re-signed scenes, and certificates.

Each comes from a fixed seed, so that a run is the same everywhere.
"""

import base64
import json
import random
from collections.abc import Callable, Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.adversarial.ca_forge import (
    EKU_AK,
    FROM,
    UNTIL,
    distinguished,
    ec_key,
    ecdsa,
    issue,
    rsa_key,
    usage,
)
from tests.adversarial.forger import Scene
from tests.browser.judging import Case
from tests.vectors import (
    generate,
    reading,
    test_differential,
    test_differential_chip,
    test_differential_gpu,
    test_differential_td,
)

# Changes that only some kinds of machine allow.
KINDS: dict[Callable[[Scene, random.Random], object], str] = {
    **dict.fromkeys(test_differential_chip.CHANGES, "confidential"),
    **dict.fromkeys(test_differential_gpu.CHANGES, "gpu"),
    **dict.fromkeys(test_differential_td.CHANGES, "azure td"),
}


def of_vector(vector: reading.Vector) -> Case:
    """Return the case of a scenario of the corpus."""
    ancestors = vector.ancestors
    return {
        "certificate": _text(vector.certificate),
        "policy": vector.policy,
        "at": vector.at.isoformat(),
        "model": vector.model,
        "lockfile": vector.lockfile,
        "nonce": None if vector.nonce is None else vector.nonce.hex(),
        "ancestors": None if ancestors is None else [_text(one) for one in ancestors],
        "audits": None
        if vector.audits is None
        else [[_text(one), _text(data)] for one, data in vector.audits],
    }


def of_scene(scene: Scene) -> Case:
    """Return a forged certificate and the verifier's settings for it, as a case."""
    model = {path: [fact.size, fact.sha256] for path, fact in scene.get("model").items()}
    return {
        "certificate": _text(scene.get("file")),
        "policy": generate.policy_files(scene.get("policy")),
        "at": scene.at.isoformat(),
        "model": model,
        "lockfile": None,
        "nonce": None,
        "ancestors": None,
        "audits": None,
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def scenes(count: int, seed: str = "browser") -> Iterator[Case]:
    """Yield the requested number of scenes, with every kind of change in turn."""
    changes = [*test_differential.CHANGES, *KINDS]
    # The stand-in reads chains, so they occur twice as often as the rest.
    changes += [test_differential.chain_again, test_differential.chain_rebuilt]
    for number in range(count):
        change = changes[number % len(changes)]
        rng = random.Random(f"{seed} {change.__name__} {number}")  # noqa: S311 - to repeat
        usual = "cloud" if number % 3 == 0 else "local", 1 + number % 2
        scene = Scene(KINDS[change]) if change in KINDS else Scene(*usual)
        change(scene, rng)
        try:
            yield of_scene(scene)
        except UnicodeEncodeError:
            # A surrogate, which no file can contain.
            continue


def ders() -> list[bytes]:
    """Return certificates to start from: all of the corpus, and one for each kind of key."""
    certificates: set[bytes] = set()
    for path in reading.paths():
        vector = reading.read(path)
        try:
            chain = json.loads(vector.certificate)["evidence"]["akChain"]
            certificates.update(base64.b64decode(one) for one in chain)
        except (ValueError, TypeError, LookupError, RecursionError):
            continue
    for key in (ec_key("x"), ec_key("x", "P-384"), rsa_key("ak")):
        certificates.add(
            issue("x", key, issuer="x", issuer_key=key, ca=True, key_usage=usage(cert=True))
        )
        certificates.add(issue("y", key, issuer="x", issuer_key=key, purposes=(EKU_AK,)))
    return sorted(certificates)


# Tags, and lengths near the borders of their forms.
_OCTETS = (0, 1, 2, 3, 4, 5, 6, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x1E, 0x30, 0x31, 0x7F, 0x80, 0x81,
           0x82, 0x85, 0xA0, 0xA1, 0xA3, 0xFF)  # fmt: skip


def mutants(count: int, seed: str = "browser") -> Iterator[Case]:
    """Yield certificates with bytes or whole elements changed, removed, duplicated or swapped."""
    rng = random.Random(seed)  # noqa: S311 - to repeat, not to hide
    seeds = [der for der in ders() if len(der) > 20]
    for _ in range(count):
        der = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 1, 2))):
            der = element_changed(der, rng) if rng.randrange(2) else octet_changed(der, rng)
        yield {"der": _text(der)}


def lists(count: int, seed: str = "browser") -> Iterator[Case]:
    """Yield revocation lists, changed in the same ways; half are re-signed."""
    rng = random.Random(seed)  # noqa: S311 - to repeat, not to hide
    key = ec_key("lists")
    issuer = issue("x", key, issuer="x", issuer_key=key, ca=True, key_usage=usage(cert=True))
    der = issue("y", ec_key("y"), issuer="x", issuer_key=key)
    seeds = list(_lists())
    for number in range(count):
        der_list = seeds[number] if number < len(seeds) else rng.choice(seeds)
        if number >= len(seeds):
            der_list = (
                element_changed(der_list, rng) if rng.randrange(3) else octet_changed(der_list, rng)
            )
        tree = parsed(der_list) if rng.randrange(2) else None
        if tree and len(tree) == 1 and isinstance(tree[0][1], list) and len(tree[0][1]) == 3:
            body = tree[0][1]
            signature = key.sign(written(body[:1]), ecdsa(hashes.SHA256()))
            body[2] = (3, b"\0" + signature)
            der_list = written(tree)
        yield {"list": _text(der_list), "issuer": _text(issuer), "der": _text(der)}


def _lists() -> Iterator[bytes]:
    """Yield a list with the certificate, one without it and an empty one; with extensions."""
    own = distinguished("x")
    number = x509.CRLNumber(1)
    point = x509.IssuingDistributionPoint(
        [x509.DNSName("x")], None, False, False, None, False, False
    )  # fmt: skip
    authority = x509.AuthorityKeyIdentifier(b"x" * 20, [x509.DirectoryName(own)], 5)
    for serials in ((77,), (5, 6), ()):
        for extensions in ([], [number], [number, point, authority]):
            builder = x509.CertificateRevocationListBuilder(own, FROM, UNTIL)
            for serial in serials:
                entry = x509.RevokedCertificateBuilder(serial, FROM)
                entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.superseded), False)
                builder = builder.add_revoked_certificate(entry.build())
            for extension in extensions:
                builder = builder.add_extension(extension, critical=False)
            signed = builder.sign(ec_key("lists"), hashes.SHA256(), ecdsa_deterministic=True)
            yield signed.public_bytes(Encoding.DER)


def octet_changed(der: bytes, rng: random.Random) -> bytes:
    octets = bytearray(der or b"\0")
    place = rng.randrange(len(octets))
    how = rng.randrange(5)
    if how == 0:
        octets[place] ^= 1 << rng.randrange(8)
    elif how == 1:
        octets[place] = rng.choice(_OCTETS)
    elif how == 2:
        del octets[place]
    elif how == 3:
        octets.insert(place, rng.choice(_OCTETS))
    else:
        other = rng.randrange(len(octets))
        octets[place], octets[other] = octets[other], octets[place]
    if octets[:2] == b"\x30\x82" and rng.randrange(4) and len(octets) >= 4:
        octets[2:4] = (len(octets) - 4).to_bytes(2)
    return bytes(octets)


Node = tuple[int, "bytes | list[Node]"]


def parsed(data: bytes) -> "list[Node] | None":
    """Return the tree of elements in these bytes; None if they are not DER."""
    nodes: list[Node] = []
    while data:
        if len(data) < 2 or data[0] & 0x1F == 0x1F:
            return None
        octets = data[1] & 0x7F if data[1] & 0x80 else 0
        start = 2 + octets
        size = int.from_bytes(data[2:start]) if octets else data[1]
        if start + size > len(data) or octets > 2:
            return None
        content = data[start : start + size]
        inner = parsed(content) if data[0] & 0x20 or data[0] == 4 else None
        nodes.append((data[0], content if inner is None else inner))
        data = data[start + size :]
    return nodes


def written(nodes: "list[Node]") -> bytes:
    """Return the bytes of such a tree, with correct lengths."""
    whole = b""
    for tag, inner in nodes:
        content = inner if isinstance(inner, bytes) else written(inner)
        size = len(content)
        octets = b"" if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8)
        length = bytes((0x80 | len(octets),)) + octets if octets else bytes((size,))
        whole += bytes((tag,)) + length + content
    return whole


def element_changed(der: bytes, rng: random.Random) -> bytes:
    """Change one element, and correct every length around it."""
    tree = parsed(der)
    if not tree:
        return octet_changed(der, rng)
    places: list[tuple[list[Node], int]] = []

    def walk(nodes: list[Node]) -> None:
        for index, (_, inner) in enumerate(nodes):
            places.append((nodes, index))
            if isinstance(inner, list):
                walk(inner)

    walk(tree)
    nodes, index = rng.choice(places)
    tag, inner = nodes[index]
    how = rng.randrange(6)
    if how == 0:
        nodes[index] = (rng.choice(_OCTETS) & 0xDF | tag & 0x20, inner)
    elif how == 1:
        del nodes[index]
    elif how == 2:
        nodes.insert(index, nodes[index])
    elif how == 3:
        other, place = rng.choice(places)
        if place < len(other):
            nodes[index] = other[place] if not _holds(other[place][1], nodes) else (tag, b"")
    elif isinstance(inner, bytes) and inner:
        nodes[index] = (tag, octet_changed(inner, rng) if how == 4 else b"")
    else:
        nodes[index] = (tag, [])
    return written(tree)


def _holds(inner: "bytes | list[Node]", nodes: list[Node]) -> bool:
    """Return whether an element contains the list into which it would be put."""
    if isinstance(inner, bytes):
        return False
    return inner is nodes or any(_holds(child, nodes) for _, child in inner)
