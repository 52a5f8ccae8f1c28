"""Install the replacement for `cryptography`: call `install()` before aicert is imported.

This table is complete: the verifier can use nothing outside it.
"""

import sys
from types import ModuleType

from browser.crypto import (
    certificate,
    curves,
    ec,
    ed25519,
    errors,
    extensions,
    hashes,
    keys,
    names,
    revocation,
    rsa,
    serialization,
)


class NameOID:
    """OIDs of name attributes, by the names that `cryptography` gives them."""

    COMMON_NAME = names.ObjectIdentifier("2.5.4.3")


MODULES: dict[str, dict[str, object]] = {
    "cryptography": {},
    "cryptography.exceptions": {
        "InvalidSignature": errors.InvalidSignatureError,
        "UnsupportedAlgorithm": errors.UnsupportedAlgorithmError,
    },
    "cryptography.x509": {
        "AuthorityKeyIdentifier": extensions.AuthorityKeyIdentifier,
        "BasicConstraints": extensions.BasicConstraints,
        "Certificate": certificate.Certificate,
        "DuplicateExtension": errors.DuplicateExtensionError,
        "ExtendedKeyUsage": extensions.ExtendedKeyUsage,
        "InvalidVersion": errors.InvalidVersionError,
        "KeyUsage": extensions.KeyUsage,
        "Name": names.Name,
        "ObjectIdentifier": names.ObjectIdentifier,
        "SubjectKeyIdentifier": extensions.SubjectKeyIdentifier,
        "UnrecognizedExtension": extensions.UnrecognizedExtension,
        "UnsupportedGeneralNameType": errors.UnsupportedGeneralNameTypeError,
        "load_der_x509_certificate": certificate.load_der_x509_certificate,
        "load_der_x509_crl": revocation.load_der_x509_crl,
    },
    "cryptography.x509.oid": {"NameOID": NameOID},
    "cryptography.hazmat": {},
    "cryptography.hazmat.primitives": {},
    "cryptography.hazmat.primitives.hashes": {
        "HashAlgorithm": hashes.HashAlgorithm,
        "SHA256": hashes.SHA256,
        "SHA384": hashes.SHA384,
        "SHA512": hashes.SHA512,
    },
    "cryptography.hazmat.primitives.serialization": {
        "Encoding": serialization.Encoding,
        "PublicFormat": serialization.PublicFormat,
        "load_der_public_key": keys.load_der_public_key,
    },
    "cryptography.hazmat.primitives.asymmetric": {},
    "cryptography.hazmat.primitives.asymmetric.ec": {
        "ECDSA": ec.ECDSA,
        "EllipticCurve": curves.Curve,
        "EllipticCurvePublicKey": ec.EllipticCurvePublicKey,
        "EllipticCurvePublicNumbers": ec.EllipticCurvePublicNumbers,
        "SECP256R1": ec.named("secp256r1"),
        "SECP384R1": ec.named("secp384r1"),
        "SECP521R1": ec.named("secp521r1"),
    },
    "cryptography.hazmat.primitives.asymmetric.ed25519": {
        "Ed25519PublicKey": ed25519.Ed25519PublicKey,
    },
    "cryptography.hazmat.primitives.asymmetric.padding": {
        "MGF1": rsa.MGF1,
        "PKCS1v15": rsa.PKCS1v15,
        "PSS": rsa.PSS,
    },
    "cryptography.hazmat.primitives.asymmetric.rsa": {
        "RSAPublicKey": rsa.RSAPublicKey,
        "RSAPublicNumbers": rsa.RSAPublicNumbers,
    },
    "cryptography.hazmat.primitives.asymmetric.utils": {
        "decode_dss_signature": ec.decode_dss_signature,
        "encode_dss_signature": ec.encode_dss_signature,
    },
}


def install() -> None:
    """Make `import cryptography` import the replacement.

    Raises RuntimeError if `cryptography` was imported already.
    """
    if "cryptography" in sys.modules:
        raise RuntimeError("cryptography was imported before its stand-in")
    for name, names_in_it in MODULES.items():
        module = ModuleType(name, __doc__)
        module.__path__ = []
        vars(module).update(names_in_it)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
