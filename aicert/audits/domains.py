"""domains/v1: find the host of a URL as browsers do, and look it up in a list.

This follows WHATWG's URL standard wherever that decides which host a browser asks: surrounding
spaces, tabs and line ends, backslashes, users, ports, escapes, full-width dots, capitals, IDNA. A
value that browsers would not take for a URL counts as unparsable, except a bare `example.org/page`.
Left out: IPv4 addresses not written as four decimal numbers, and the validity of `xn--` labels.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from aicert.text import IGNORABLE

MAX_HOST: Final = 253
MAX_LABEL: Final = 63
# Leaves room for a host whose every character is escaped.
_MOST_ESCAPED: Final = 4 * MAX_HOST
# Nobody fetched a URL longer than this.
MAX_URL: Final = 1 << 16
_AROUND: Final = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\n\r")
# Browsers do not need the slashes after some schemes. After any other scheme there must be two;
# without a scheme, the text begins with the host itself.
_AUTHORITY = re.compile(
    r"(?:(?:(?:https?|ftp|wss?):[/\\]*+|(?:[a-z][a-z0-9+.-]*+:)?+[/\\]{2,}+)([^/\\?#]*+)"
    r"|([^/\\?#:@]++)(?:[/\\?#:]|\Z))",
    re.IGNORECASE,
)
# Nearly every URL in data matches this; `_AUTHORITY` finds the same host, but takes longer.
_PLAIN = re.compile(r"https?://([a-z0-9.-]++)(?:[/?#]|\Z)")
_PORT = re.compile(r":[0-9]*\Z")
_IGNORED = re.compile(rf"[\u00ad\u200b-\u200d\u2060\ufeff]|{IGNORABLE}")
_LABEL = re.compile(rf"[a-z0-9_](?:[a-z0-9_-]{{0,{MAX_LABEL - 2}}}[a-z0-9_])?")
_ADDRESS = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_ADDRESS_6 = re.compile(r"\[[0-9a-f:.]{2,45}\]")
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")


def host_of(url: str) -> str | None:
    """Return the host of a URL, folded; None if it has no host."""
    if len(url) > MAX_URL:
        return None
    plain = _PLAIN.match(url)
    if plain is not None:
        return folded_host(plain[1])
    matched = _AUTHORITY.match(url.strip(_AROUND).translate(_DROPPED))
    if matched is None:
        return None
    if matched[1] is None:
        host = folded_host(matched[2])
        # A single word is not an address.
        return host if host is not None and "." in host else None
    host = matched[1].rpartition("@")[2]
    return folded_host(_PORT.sub("", host))


def folded_host(text: str) -> str | None:
    """Return a host in its one form: ASCII, lower case, no final dot; None if it is no host."""
    return None if len(text) > _MOST_ESCAPED else _folded(text)


# Data has few hosts and many pages of each.
@lru_cache(maxsize=1 << 14)
def _folded(text: str) -> str | None:
    host = text.lower() if text.isascii() and "%" not in text else _undone(text)
    host = host.removesuffix(".")
    if _ADDRESS_6.fullmatch(host):
        return host
    labels = [_ascii_label(label) for label in host.split(".")]
    folded = ".".join(labels)
    if len(folded) > MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        return None
    if labels[-1].isdecimal() and not _ADDRESS.fullmatch(folded):
        return None
    return folded


def _undone(text: str) -> str:
    """Undo escapes and compatibility forms in a host; return "" if it is not UTF-8."""
    try:
        host = unquote(text, errors="strict")
    except UnicodeDecodeError:
        return ""
    host = unicodedata.normalize("NFKC", _IGNORED.sub("", host.translate(_DOTS)))
    return unicodedata.normalize("NFKC", host.lower()).translate(_DOTS)


def _ascii_label(label: str) -> str:
    # Punycode takes quadratic time.
    if label.isascii() or len(label) > MAX_LABEL:
        return label
    return f"xn--{label.encode('punycode').decode('ascii')}"


def is_listed(host: str, domains: frozenset[str]) -> bool:
    """Return whether a list has the host, or a domain that the host is in."""
    while host not in domains:
        _, dot, host = host.partition(".")
        if not dot:
            return False
    return True
