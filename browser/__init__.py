"""Verify in a browser: the page `verify.html`, and what it needs in addition to the verifier.

`crypto/` replaces the library `cryptography`, of which there is no build for browsers. The verifier
in `aicert/` goes into the page unchanged; it imports nothing from here, and nothing here is
installed with it.
"""
