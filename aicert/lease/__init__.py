"""Leases of certified weights, as custodian and machine both read them: terms, licences, and the
TPM policies that licences are signatures of.

Pure: bytes and values, no TPM, no files, no time. Imports formats and crypto, and is for machines
that serve to carry; `keys` is the module that handles keys.
"""
