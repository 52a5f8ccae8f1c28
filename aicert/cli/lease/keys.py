"""Get a lease's keys from its file, from a token or from a TPM, for the lease commands."""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aicert.errors import ConfigError, ToolError

if TYPE_CHECKING:
    import argparse

    from aicert.lease.custody import Secrets
    from aicert.leasing.hardware_keys import HeldKey

PKCS11, TPM = "pkcs11:", "tpm:"
_MODULES = {PKCS11: ("pkcs11_signer", "pkcs11"), TPM: ("tpm_signer", "tpm")}


def add_password(parser: "argparse.ArgumentParser") -> None:
    """Add the option that names the environment variable with the password of a token's or TPM's
    key.
    """
    parser.add_argument(
        "--password-env",
        metavar="NAME",
        help="environment variable with the PIN or authorisation of a lease key in a token or TPM",
    )


def password(options: "argparse.Namespace") -> str | None:
    """Return the value of that variable, or None."""
    name: str | None = options.password_env
    if name is not None and name not in os.environ:
        raise ConfigError(
            f"there is no environment variable {name[:80]!a}",
            hint="read -rs NAME && export NAME    # what you type is not shown",
        )
    return None if name is None else os.environ[name]


def read(folder: Path, secret: str | None) -> "Secrets":
    """Read the secrets of the lease whose bundle is at `folder`."""
    from aicert.files.bounded import read_bounded
    from aicert.lease import custody
    from aicert.leasing import hardware_keys, packing

    hint = "`aicert lease pack` wrote them beside the bundle, and only its custodian has them"
    data = read_bounded(packing.keys_path(folder), custody.MAX_BYTES, "keys", hint=hint)
    return hardware_keys.parse(data, lambda place, signed: signer(place, secret).sign(signed))


def held_key(place: str, secret: str | None) -> "HeldKey":
    """Return the key at a place, with which to pack a lease."""
    from aicert.leasing import hardware_keys

    opened = signer(place, secret)
    if opened.public.curve.name != "secp256r1":
        raise ConfigError(
            "a lease key must be a P-256 key",
            hint="pkcs11-tool --keypairgen --key-type EC:prime256v1, or tpm2_create -G ecc256",
        )
    if len(place) > hardware_keys.MAX_PLACE:
        raise ConfigError(f"a key's place has at most {hardware_keys.MAX_PLACE} characters")
    return hardware_keys.HeldKey(
        place, opened.public, lambda at, data: signer(at, secret).sign(data)
    )


def signer(place: str, secret: str | None) -> Any:
    """Return the signer for the key at `pkcs11:…` (RFC 7512) or `tpm:HANDLE`."""
    scheme = place[: place.find(":") + 1]
    if scheme not in _MODULES:
        raise ConfigError(
            f"a lease key is at pkcs11:… or tpm:HANDLE, not at {place[:40]!a}",
            hint="--key-at tpm:0x81010002",
        )
    module, extra = _MODULES[scheme]
    try:
        loaded: Any = importlib.import_module(f"aicert.signing.{module}")
    except ModuleNotFoundError as error:
        raise ToolError(
            f"this needs the package {error.name}, which is not installed",
            hint=f"in a checkout of this project: pip install '.[{extra}]'",
        ) from None
    return loaded.load(place.removeprefix(TPM), secret)
