"""The trainer `audit`: it reads data inputs as canonical rows and outputs results, no model.

It runs only our own code (docs/spec/audit.md).
"""
