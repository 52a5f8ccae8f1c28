"""A machine that serves a leased model: its TPM, the bundle, the count and the end.

Imports the attester's TPM, and of `aicert` what machines carry and what leases say. It is in the
image of serving machines alone.
"""
