"""The TPM: registers, keys, the quote, and the certificate made from them.

Imports `inputs` for what was measured, and those rooms of `aicert` that the machine carries.
"""
