"""Certificate files that must not parse: one typed error before any signature is checked."""

from collections.abc import Callable

from tests.adversarial.attacks import MALFORMED, Attack
from tests.adversarial.forger import NONCE, Scene

Change = Callable[[Scene], object]


def text(change: Callable[[bytes], bytes]) -> Change:
    return lambda s: s.edit("file", change)


def swap(old: bytes, new: bytes) -> Change:
    return text(lambda data: data.replace(old, new, 1))


HEX = NONCE.hex().encode()

ATTACKS = (
    Attack("nothing", MALFORMED, text(lambda _: b"")),
    Attack("no JSON", MALFORMED, text(lambda d: d[:-3])),
    Attack("a list", MALFORMED, text(lambda _: b"[]")),
    Attack("larger than any certificate", MALFORMED, text(lambda d: d + b" " * (1 << 24))),
    Attack(
        "larger than any statement",
        MALFORMED,
        lambda s: s.edit("payload", lambda payload: payload + b" " * (1 << 23)),
    ),
    Attack("byte order mark", MALFORMED, text(lambda d: b"\xef\xbb\xbf" + d)),
    Attack("invalid UTF-8", MALFORMED, swap(b'"kind"', b'"\xff"')),
    Attack("key given twice in the file", MALFORMED, swap(b'"kind"', b'"kind":"x","kind"')),
    Attack("unknown key", MALFORMED, swap(b'"kind"', b'"note":"x","kind"')),
    Attack("NaN", MALFORMED, swap(b'"version":1', b'"version":NaN')),
    Attack("huge number", MALFORMED, swap(b'"version":1', b'"version":1e999')),
    Attack("boolean as number", MALFORMED, swap(b'"version":1', b'"version":true')),
    Attack("another version", MALFORMED, swap(b'"version":1', b'"version":3')),
    Attack("nested without end", MALFORMED, text(lambda _: b'{"a":' * 50_000)),
    Attack("lone surrogate in the file", MALFORMED, swap(b'"k"', b'"\\udc00"')),
    Attack("nonce absent", MALFORMED, swap(b'"nonce":"' + HEX + b'",', b"")),
    Attack("nonce truncated", MALFORMED, swap(HEX, HEX[:32])),
    Attack("nonce of another spelling", MALFORMED, swap(HEX, HEX.upper())),
    Attack("register missing", MALFORMED, swap(b'"14":', b'"16":')),
    Attack("register of another size", MALFORMED, swap(b'"15":"00', b'"15":"')),
    Attack("empty chain", MALFORMED, lambda s: s.put("chain", ())),
    Attack("endless chain", MALFORMED, lambda s: s.edit("chain", lambda c: c * 7)),
    Attack(
        "two signatures",
        MALFORMED,
        swap(b'"signatures":[', b'"signatures":[{"keyid":"","sig":""},'),
    ),
    Attack("another payload type", MALFORMED, swap(b"vnd.in-toto+json", b"vnd.in-toto+yaml")),
    Attack("base64 of another spelling", MALFORMED, swap(b'"sig":"', b'"sig":"\\n')),
    Attack("another kind of evidence", MALFORMED, swap(b'"kind":"tpm2"', b'"kind":"none"')),
    Attack("lockfile not ASCII", MALFORMED, swap(b"axolotl", "axolötl".encode())),
)
