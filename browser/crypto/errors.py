"""The exceptions of `cryptography` that the verifier tells apart."""


class InvalidSignatureError(Exception):
    """The key did not make this signature."""


class UnsupportedAlgorithmError(Exception):
    """A kind of key, curve or signature that is not known here."""


class DuplicateExtensionError(Exception):
    """A certificate has an extension twice."""


class InvalidVersionError(Exception):
    """A certificate is of a version that X.509 does not have."""


class UnsupportedGeneralNameTypeError(Exception):
    """An x400Address or an ediPartyName."""
