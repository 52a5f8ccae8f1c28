"""The trainer `mergekit`: it combines whole models into one, by linear, slerp or ties.

mergekit runs in the trainer's sandbox, from a folder of packages before the training environment,
but not by its command line, which asks a hub. Nothing is trained, and no rows are read
(docs/spec/merge.md).
"""
