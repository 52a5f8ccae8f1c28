"""A stand-in for the part of `cryptography` that the verifier asks for, in Python alone.

It reads X.509 certificates (RFC 5280) in strict DER (X.690) and verifies signatures by RSA
(RFC 8017), on the curves P-256, P-384 and P-521 (FIPS 186-5) and by Ed25519 (RFC 8032). It holds no
secret and makes no signature, so no running time gives anything away. `install.py` puts it where
Python looks for `cryptography`.

Promises: it accepts and refuses what `cryptography` does, with the same words, which
`tests/browser/` holds over the corpus and over what chance makes of it. Where they are known to
differ, this is the stricter one (`keys.py`).
"""
