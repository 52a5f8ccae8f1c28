"""Decides PASSED: evidence, lockfile and model against a policy.

`appraise.py` runs the checks in order. Imports errors, text, formats and crypto; reads no file and
knows no command.
"""
