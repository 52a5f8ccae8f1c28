"""Parse bytes into values and write them back. Standard library only, no input or output.

Code in this room can only reject.
"""
