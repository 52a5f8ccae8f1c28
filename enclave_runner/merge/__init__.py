"""The trainer `axolotl-merge`: it merges a LoRA adapter into a model.

Axolotl's own merge runs in the trainer's sandbox and environment, but not by its command line,
which reads the config of a training. Nothing is trained, and no rows are read (docs/spec/merge.md).
"""
