"""Keyless Sigstore signatures, through Sigstore's own library. Extra: `sigstore`.

Signing asks an OpenID provider who the signer is, Fulcio for a certificate that is valid for ten
minutes, and Rekor for an entry in its log: it needs the network, and publishes identity and
signature there. Verifying is offline: it checks the certificate, the proof that it was logged, the
time, and the log entry, with a trusted root that is the caller's or the newest one that the library
has stored.
"""

import os

import sigstore
from cryptography import x509
from sigstore import dsse, oidc
from sigstore._internal.fulcio.client import FulcioClientError
from sigstore._internal.rekor.client import RekorClientError
from sigstore.errors import Error, VerificationError
from sigstore.models import Bundle as SigstoreBundle
from sigstore.models import ClientTrustConfig, TrustedRoot
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.bounded import StrPath, read_bounded
from aicert.formats.dsse import PAYLOAD_TYPE
from aicert.frozen import dataclass
from aicert.model_signature.reader import Bundle
from aicert.signing.keys import Trusted

_MAX_CONFIG = 1 << 20
# What the library raises, besides its own base class, when a service refuses.
_SERVICES = (FulcioClientError, RekorClientError, oidc.ExpiredIdentity)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessSigner:
    """Signs as the identity in `token`, through the services of `config`."""

    config: ClientTrustConfig
    token: oidc.IdentityToken

    def bundle(self, payload: bytes) -> bytes:
        """Return the content of the signature file for `payload`, with its entry in the log."""
        try:
            context = SigningContext.from_trust_config(self.config)
            with context.signer(self.token) as signer:
                bundle: str = signer.sign_dsse(dsse.Statement(payload)).to_json()
                return bundle.encode()
        except (*_SERVICES, Error, OSError, ValueError) as error:
            raise ToolError(f"Sigstore did not sign: {_first(error)}") from None


def load(token: str | None, config: StrPath | None) -> KeylessSigner:
    """Return the signer for an identity token.

    Without a token, use the identity that the environment provides, or ask a person to log in.
    `config`: the client trust config of a Sigstore instance other than the public one.
    """
    try:
        trust = ClientTrustConfig.production() if config is None else _config(config)
        credential = token or oidc.detect_credential()
        if credential is None:
            # Opens a browser, or prints an address.
            issued = oidc.Issuer(trust.signing_config.get_oidc_url()).identity_token()
        else:
            issued = oidc.IdentityToken(credential)
    except (oidc.ExpiredIdentity, Error, OSError, ValueError) as error:
        raise ToolError(
            f"Sigstore could not identify the signer: {_first(error)}",
            hint="this needs the network; --trust-config FILE names another instance",
        ) from None
    return KeylessSigner(config=trust, token=issued)


def _config(path: StrPath) -> ClientTrustConfig:
    try:
        text = read_bounded(path, _MAX_CONFIG, "trust config").decode("utf-8")
    except (EvidenceError, UnicodeDecodeError) as error:
        raise ConfigError(str(error)) from None
    try:
        return ClientTrustConfig.from_json(text)
    except (Error, ValueError) as error:
        raise ConfigError(f"{os.fspath(path)!a} is not a trust config: {_first(error)}") from None


def trust(data: bytes, identity: str, issuer: str, root: StrPath | None) -> Trusted:
    """Raise EvidenceError unless `identity`, as asserted by `issuer`, signed the bundle `data`."""
    verifier = _verifier(root)
    try:
        bundle = SigstoreBundle.from_json(data)
        wanted = policy.Identity(identity=identity, issuer=issuer)
        kind, payload = verifier.verify_dsse(bundle, wanted)
    except VerificationError as error:
        raise EvidenceError(f"not signed by {identity[:200]!a}: {_first(error)}") from None
    except (Error, ValueError, x509.ExtensionNotFound) as error:
        raise EvidenceError(f"the keyless signature is not valid: {_first(error)}") from None
    if kind != PAYLOAD_TYPE:
        raise EvidenceError(f"the signed payload has a different type: {kind[:80]!a}")
    logged = bundle.log_entry._inner  # noqa: SLF001 - the only place that has the entry's number
    entry = f"entry {logged.log_index} of its transparency log"
    anchor = f"the newest that sigstore {sigstore.__version__} has here"
    if root is not None:
        anchor = os.fspath(root)

    def verified(read: Bundle) -> str:
        if read.payload != payload:
            raise EvidenceError("two readers of the bundle found different payloads")
        return "by the certificate's key, as sigstore's library verified"

    return Trusted(why=f"{identity}, by {issuer}\n{entry}\ntrusted root: {anchor}", verify=verified)


def _verifier(root: StrPath | None) -> Verifier:
    try:
        if root is None:
            return Verifier.production(offline=True)
        return Verifier(trusted_root=TrustedRoot.from_file(os.fspath(root)))
    except (Error, OSError, ValueError) as error:
        raise ConfigError(f"the trusted root cannot be used: {_first(error)}") from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:400]
