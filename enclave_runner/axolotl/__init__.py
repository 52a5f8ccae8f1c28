"""The trainer `axolotl`: rules for its config, the training, and its report.

This room imports `inputs` and `sandbox`, which know nothing about it. Every other trainer has a
room beside this one.
"""
