"""The trainer `lm-eval`: it evaluates a model on tasks that inputs define, and makes no model.

The tasks are lm-evaluation-harness's own YAML files, read here as data: no code in them, no hub.
"""
