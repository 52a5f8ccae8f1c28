"""Formats of transparency logs (C2SP): signed notes, checkpoints, cosignatures, proofs, entries.

This room reads and writes them, and checks whether a key signed them or a path leads to a root. A
policy says which logs and witnesses count; `aicert/log` has a log's own files.
"""
