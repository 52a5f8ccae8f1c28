"""Audits: what can be proven about rows, as functions of bytes alone (docs/spec/audit.md).

Folding and the kinds of checks, the trees over rows and over passages, the proofs from them, the
config of an audit and its results. Nothing here opens a file; rows arrive as canonical lines.
Imports values only. The machine carries this room for runs whose trainer is `audit` (ADR 27).
"""
