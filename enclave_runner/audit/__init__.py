"""The trainer `audit`: data inputs as canonical rows in, results out (docs/spec/audit.md).

It runs only our own code, and makes no model.
"""
