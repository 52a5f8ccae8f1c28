"""Verify in a browser: the page `verify.html`, and what it needs in addition to the verifier.

`crypto/` replaces the library `cryptography`, which has no build for browsers; the verifier in
`aicert/` is included unchanged. The verifier imports nothing from here, and none of this is
installed with it.
"""
