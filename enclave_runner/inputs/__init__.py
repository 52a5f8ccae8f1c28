"""Hash inputs, then refuse those that could run code or change what is trained on.

This room imports `sandbox`, where rows are converted, and no trainer.
"""
