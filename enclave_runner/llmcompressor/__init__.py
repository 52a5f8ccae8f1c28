"""The trainer `llmcompressor`: it makes a model's numbers smaller, by rounding to the nearest.

llmcompressor runs in the trainer's sandbox, from a folder of packages before the training
environment. Nothing is trained, and no rows are read (docs/spec/quantise.md).
"""
