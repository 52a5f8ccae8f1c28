"""The trainer `axolotl-evaluate`: it measures how well a model fits rows, and makes no model.

It uses Axolotl's loaders and prompts, and code of the program that measures a training's loss.
"""
