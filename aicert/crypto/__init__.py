"""X.509 and signatures: the only rooms of the verifier that import `cryptography` are here."""
