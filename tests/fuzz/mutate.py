"""Blind mutations, for a fuzzer without coverage: equal for equal states of `Random`."""

from random import Random

TOKENS = (
    b"\0",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"[" * 40,
    b'{"a":' * 40,
    b"]",
    b"}",
    b'"',
    b"\\",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b"../",
    b"NaN",
    b"-0",
    b"1e999",
    b"9" * 30,
    b"1" * 5000,
    b"a." * 300,
    b"= ",
    b"\xc2\xa0",
    b"=",
    b"true",
    b"null",
    b"1979-05-27T07:32:00Z",
)


def mutated(chance: Random, corpus: list[bytes]) -> bytes:
    """Return one input of `corpus` with one to four changes."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.randint(1, 4)):
        _change(chance, data, corpus)
    return bytes(data)


def _change(chance: Random, data: bytearray, corpus: list[bytes]) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 2, 4, 8, 64)))
    match chance.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            data[at:at] = chance.choice(TOKENS)
        case 3:
            data[at:end] = chance.choice(TOKENS)
        case 4:
            del data[at:end]
        case 5:
            data[at:at] = data[at:end] * chance.randint(1, 4)
        case _:
            other = chance.choice(corpus)
            data[at:] = other[chance.randint(0, len(other)) :]
