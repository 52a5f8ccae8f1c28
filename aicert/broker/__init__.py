"""The custodian's broker: it enrols machines, issues licences and key halves, and takes receipts.

It also ends boots. Imports the appraisal and what leases say. Nothing else in `aicert` imports it,
and no machine carries it: the command line loads it by name.
"""
