"""Leases of certified weights, as custodian and machine both read them: terms, licences, and the
TPM policies that licences sign.

Pure: bytes and values, no TPM, no files, no time. Imports formats and crypto; machines that serve
carry this room. `keys` is the module that handles keys.
"""
