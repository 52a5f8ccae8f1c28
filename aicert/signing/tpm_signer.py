r"""Sign with a persistent key of this computer's TPM 2.0, by its handle. Extra: `tpm`.

    tpm2_createprimary -C o -G ecc256:ecdsa -c key \
      -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
    tpm2_evictcontrol -C o -c key 0x81010002
    tpm2_readpublic -c 0x81010002 -f pem -o key.pub

The TPM is the one that TPM2TOOLS_TCTI names, as for tpm2-tools, else the system's. A restricted key
is refused by the TPM: it signs only what the TPM itself made.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tpm2_pytss import ESAPI, TPM2_ALG, TPMT_SIG_SCHEME, TSS2_Exception

from aicert.errors import ConfigError, ToolError
from aicert.formats.tpm import parse_signature
from aicert.signing.keys import KeySigner, digest_of, signing_key

# Part 2, 7.4: persistent objects.
_HANDLE = re.compile(r"0x81[0-9a-fA-F]{6}")
# TPM2B_AUTH holds no more than the largest digest (Part 2, 10.4.5).
_MAX_AUTH = 64
_HASHES = {"secp256r1": TPM2_ALG.SHA256, "secp384r1": TPM2_ALG.SHA384}


def load(handle: str, password: str | None) -> KeySigner:
    """Return the signer with that handle; `password` is the key's authorisation value."""
    if not _HANDLE.fullmatch(handle):
        raise ConfigError(
            f"expected a persistent handle like 0x81010002, not {handle[:40]!a}",
            hint="tpm2_getcap handles-persistent",
        )
    if password is not None and len(password.encode()) > _MAX_AUTH:
        raise ConfigError(f"a TPM's authorisation values have at most {_MAX_AUTH} bytes")
    with _key(handle, password) as (esapi, key_handle):
        public, _, _ = esapi.read_public(key_handle)
        try:
            pem = public.to_pem()
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{handle} cannot sign models: {error}") from None
    key = signing_key(serialization.load_pem_public_key(pem), f"the TPM's key {handle}")
    if key.curve.name not in _HASHES:
        raise ConfigError(f"the TPM's key {handle} is not on P-256 or P-384")

    def sign(data: bytes) -> bytes:
        scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = _HASHES[key.curve.name]
        with _key(handle, password) as (esapi, key_handle):
            marshalled = bytes(esapi.sign(key_handle, digest_of(key, data), scheme).marshal())
        signature = parse_signature(marshalled)
        return encode_dss_signature(signature.r, signature.s)

    return KeySigner(public=key, sign=sign)


@contextmanager
def _key(handle: str, password: str | None) -> Iterator[tuple[Any, Any]]:
    # The TSS prints its own errors to standard error; our errors repeat them.
    os.environ.setdefault("TSS2_LOG", "all+none")
    try:
        with ESAPI(os.environ.get("TPM2TOOLS_TCTI")) as esapi:
            key_handle = esapi.tr_from_tpmpublic(int(handle, 16))
            if password is not None:
                esapi.tr_set_auth(key_handle, password)
            yield esapi, key_handle
    except (TSS2_Exception, RuntimeError) as error:
        hint = "tpm2_getcap handles-persistent"
        if "tcti" in str(error):
            hint = "TPM2TOOLS_TCTI=device:/dev/tpmrm0 or another, and the right to open it"
        elif password is None and "authorization" in str(error):
            hint = "--password-env NAME: the environment variable that holds its authorisation"
        raise ToolError(f"the TPM refuses to work with {handle}: {error}", hint=hint) from None
