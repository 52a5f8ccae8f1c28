"""The exceptions of `cryptography` that the verifier distinguishes."""


class InvalidSignatureError(Exception):
    """The key did not make this signature."""


class UnsupportedAlgorithmError(Exception):
    """The kind of key, curve or signature is unknown."""


class DuplicateExtensionError(Exception):
    """A certificate has the same extension twice."""


class InvalidVersionError(Exception):
    """A certificate has a version that X.509 does not define."""


class UnsupportedGeneralNameTypeError(Exception):
    """A name is an x400Address or an ediPartyName."""
