"""A replacement for the part of `cryptography` that the verifier uses, in pure Python.

It reads X.509 certificates (RFC 5280) in strict DER (X.690) and verifies signatures by RSA (RFC
8017), on the curves P-256, P-384 and P-521 (FIPS 186-5) and by Ed25519 (RFC 8032). It holds no
secrets and makes no signatures, so its running time reveals nothing. `install.py` puts it where
Python looks for `cryptography`.

It accepts and rejects what `cryptography` does, with the same messages. `tests/browser/` checks
this with the corpus and with random mutations of it. Where the two are known to differ, this one is
stricter (`keys.py`).
"""
