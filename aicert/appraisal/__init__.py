"""Decide whether a certificate passes: appraise evidence, lockfile and model under a policy.

`appraise.py` runs the checks in order. This package imports errors, text, formats and crypto; it
reads no file and knows no command.
"""
