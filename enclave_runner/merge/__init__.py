"""The trainer `axolotl-merge`: a model and a LoRA adapter in, their merged weights out.

Axolotl's own merge runs, in the trainer's sandbox and environment; its command line does not, which
reads the config of a training. Nothing is trained, and no rows are read (docs/spec/merge.md).
"""
