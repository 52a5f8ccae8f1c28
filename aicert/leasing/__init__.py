"""Judge machines under a policy: those that ask a custodian for a lease, and those that serve one.

Imports the appraisal and what leases say. No machine carries it; no verdict on a certificate needs
it.
"""
