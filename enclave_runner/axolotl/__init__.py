"""The trainer `axolotl`: rules for its config, the training, its report.

Imports `inputs` and `sandbox`, which know nothing about it; every other trainer has a room beside
this one.
"""
