"""Formats of transparency logs (C2SP): signed notes, checkpoints, cosignatures, proofs, entries.

Bytes to values and back, and whether a key signed them or a path leads to a root. Which logs and
witnesses count is a policy's; a log's own files are another room's.
"""
