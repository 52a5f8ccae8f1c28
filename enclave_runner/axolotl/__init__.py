"""The one trainer so far: rules for its config, the training, what it reports.

Imports `inputs` and `sandbox`, which know nothing of it; another trainer gets a room beside it.
"""
