"""Inputs: measured, then refused if they could run code or decide what is trained on.

Imports `sandbox`, where rows are converted, and no trainer.
"""
