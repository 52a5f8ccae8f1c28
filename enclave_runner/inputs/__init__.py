"""Inputs: hash them, then refuse those that could run code or change what is trained on.

Imports `sandbox`, where rows are converted, and no trainer.
"""
