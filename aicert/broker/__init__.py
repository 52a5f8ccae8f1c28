"""The custodian's broker: enrols machines, gives licences and halves of keys, takes receipts, ends.

Imports the appraisal and what leases say. Nothing else in `aicert` imports it, and no machine
carries it: the command line loads it by name.
"""
