"""The trainer `axolotl-evaluate`: a model and rows in, how well it fits them out; no model.

It uses Axolotl's loaders and prompts, and the program that measures the loss of a training.
"""
