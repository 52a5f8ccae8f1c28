"""Decides PASSED: evidence, lockfile and model against a policy.

`appraise.py` runs the checks in order. Imports errors, formats, files, crypto and model signatures;
reads no file and knows no command.
"""
