"""Formats of transparency logs (C2SP): signed notes, checkpoints, cosignatures, proofs, entries.

Bytes to values and back, and whether a key signed them or a path leads to a root. A policy says
which logs and witnesses count; `aicert/log` has a log's own files.
"""
