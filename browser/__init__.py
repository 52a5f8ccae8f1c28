"""Verifying in a browser: the page `verify.html`, and what it needs beside the verifier itself.

`crypto/` stands in for the library `cryptography`, which has no build for browsers; the verifier in
`aicert/` is carried unchanged. Nothing here is imported by it, nor installed with it.
"""
