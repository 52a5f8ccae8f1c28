"""The machine that serves a leased model: its TPM, the bundle, the meter and the end of serving.

It imports the attester's TPM code and, from `aicert`, only what both kinds of machine carry plus
the lease formats. Only the image of serving machines contains it.
"""
