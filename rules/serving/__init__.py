"""A leased model on this computer: its machine, and the courier between machine and broker.

The courier trusts nobody, and nobody trusts it: machine and custodian sign everything that matters.
All it can do is stop relaying.
"""
