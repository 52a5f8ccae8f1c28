"""Audits: what can be proven about rows, as functions of bytes alone (docs/spec/audit.md).

This room has the folding of text, the kinds of checks, the trees over rows and over passages, the
proofs made from them, and the config and the results of an audit. Nothing here opens a file; rows
arrive as canonical lines. It imports only rooms that hold values. The machine carries it for runs
whose trainer is `audit` (ADR 27).
"""
