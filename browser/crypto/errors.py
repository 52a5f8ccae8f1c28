"""The exceptions of `cryptography` that the verifier distinguishes."""


class InvalidSignatureError(Exception):
    """The key did not make this signature."""


class UnsupportedAlgorithmError(Exception):
    """An unknown kind of key, curve or signature."""


class DuplicateExtensionError(Exception):
    """A certificate has the same extension twice."""


class InvalidVersionError(Exception):
    """A certificate has a version that X.509 does not define."""


class UnsupportedGeneralNameTypeError(Exception):
    """An x400Address or an ediPartyName."""
