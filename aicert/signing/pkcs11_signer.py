"""Sign with a key in a PKCS #11 token, named by a URI (RFC 7512). Extra: `pkcs11`.

    pkcs11:token=models;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so

Attributes: `token`, `serial`, `object`, `id` (percent-encoded bytes); in the query `module-path`,
`pin-source` (a file) and `pin-value`. Others are refused: a URI that narrows the choice in a way
that is not understood must not choose another key. The key is an EC key whose public half is in the
token, too; the token gets the digest, never the data.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, unquote_to_bytes

import pkcs11
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11.constants import ObjectClass
from pkcs11.mechanisms import KeyType, Mechanism
from pkcs11.util.ec import encode_ec_public_key

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.bounded import read_bounded
from aicert.signing.keys import KeySigner, digest_of, signing_key

_PATH: tuple[str, ...] = ("token", "serial", "object", "id")
_QUERY: tuple[str, ...] = ("module-path", "pin-source", "pin-value")
_ATTRIBUTE = re.compile(r"([a-z-]{1,20})=([^;&?]{1,1000})")
_MAX_PIN = 1024


def load(uri: str, pin: str | None) -> KeySigner:
    """Return the signer that `uri` names; `pin` takes precedence over a PIN in the URI."""
    wanted = parse(uri)
    secret = pin if pin is not None else _pin(wanted)
    with _session(wanted, secret) as session:
        token_key = session.get_key(object_class=ObjectClass.PUBLIC_KEY, **_which(wanted))
        if token_key.key_type is not KeyType.EC:
            raise ConfigError("the token's key is not an EC key")
        public = serialization.load_der_public_key(encode_ec_public_key(token_key))

    key = signing_key(public, "the token's key")

    def sign(data: bytes) -> bytes:
        with _session(wanted, secret) as session:
            private = session.get_key(object_class=ObjectClass.PRIVATE_KEY, **_which(wanted))
            signature = private.sign(digest_of(key, data), mechanism=Mechanism.ECDSA)
        # PKCS #11 v3.0, 2.3.1: r and s, each of half the length, big-endian.
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        return encode_dss_signature(r, s)

    return KeySigner(public=key, sign=sign)


def parse(uri: str) -> dict[str, str]:
    """Return the attributes of a URI, still percent-encoded; ConfigError if one is unsupported."""
    scheme, colon, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    attributes: dict[str, str] = {}
    for text, mark, known in ((path, ";", _PATH), (query, "&", _QUERY)):
        for part in filter(None, text.split(mark)):
            match = _ATTRIBUTE.fullmatch(part)
            if match is None or match[1] not in known or match[1] in attributes:
                raise ConfigError(f"the PKCS #11 URI: {part[:80]!a} is unknown, or given twice")
            attributes[match[1]] = match[2]
    if (scheme, colon) != ("pkcs11", ":") or "module-path" not in attributes:
        raise ConfigError(
            "expected a PKCS #11 URI with a module-path",
            hint="pkcs11:token=NAME;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so",
        )
    if "object" not in attributes and "id" not in attributes:
        raise ConfigError("the PKCS #11 URI does not name a key: give object= or id=")
    return attributes


def _which(wanted: dict[str, str]) -> dict[str, object]:
    """Return the attributes by which to look for the key in the token."""
    which: dict[str, object] = {}
    if "object" in wanted:
        which["label"] = unquote(wanted["object"])
    if "id" in wanted:
        which["id"] = unquote_to_bytes(wanted["id"])
    return which


def _pin(wanted: dict[str, str]) -> str | None:
    if "pin-value" in wanted:
        return unquote(wanted["pin-value"])
    if "pin-source" not in wanted:
        return None
    path = unquote(wanted["pin-source"]).removeprefix("file:").removeprefix("//")
    try:
        return read_bounded(path, _MAX_PIN, "PIN").decode("utf-8").rstrip("\r\n")
    except (EvidenceError, UnicodeDecodeError) as error:
        raise ConfigError(f"the PIN cannot be read: {error}") from None


@contextmanager
def _session(wanted: dict[str, str], pin: str | None) -> Iterator["pkcs11.Session"]:
    module = unquote(wanted["module-path"])
    try:
        library = pkcs11.lib(module)
        serial = wanted.get("serial")
        token = library.get_token(
            token_label=unquote(wanted["token"]) if "token" in wanted else None,
            token_serial=None if serial is None else unquote_to_bytes(serial),
        )
        with token.open(user_pin=pin) as session:
            yield session
    except pkcs11.exceptions.PKCS11Error as error:
        name = type(error).__name__
        hint = f"p11tool --provider={shlex.quote(module)} --list-all --login"
        if not os.path.exists(module):
            hint = "module-path needs the library of your token, like libsofthsm2.so"
        if pin is None and name in ("NoSuchKey", "UserNotLoggedIn"):
            # Without a PIN, a token shows no private keys.
            hint = "--password-env NAME: the environment variable that holds the PIN"
        raise ToolError(
            f"the PKCS #11 token refused: {name}{f': {error}' if str(error) else ''}", hint=hint
        ) from None
    except RuntimeError as error:
        raise ToolError(f"the PKCS #11 module cannot be used: {error}") from None
