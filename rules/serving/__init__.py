"""A leased model on this computer: its machine, and the courier between machine and broker.

A courier believes nobody and is believed by nobody: all that counts is signed by machine and
custodian. What it can do is stop carrying.
"""
