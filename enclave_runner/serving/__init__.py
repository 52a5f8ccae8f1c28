"""Serve a leased model in a machine: its TPM, the bundle, the meter and the end of serving.

This room imports the attester's TPM code and, from `aicert`, only the rooms that both kinds of
machine carry and the lease formats. Only the image of serving machines contains it.
"""
