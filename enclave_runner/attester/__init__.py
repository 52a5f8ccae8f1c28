"""The TPM: registers, keys, the quote, and the certificate that is made of them.

Imports `inputs` for what was measured, and of `aicert` what the machine carries.
"""
