"""Use the TPM: registers, keys, the quote, and the certificate that is made from them.

This room imports `inputs` for the measured inputs, and rooms of `aicert` that the machine carries.
"""
