"""The trainer `audit`: data inputs as canonical rows in, results out (docs/spec/audit.md).

Code of ours alone runs, and no model is made.
"""
