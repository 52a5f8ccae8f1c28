"""`aicert lease`: the options and output of the commands of custodians and brokers; `aicert/lease`,
`aicert/leasing` and `aicert/broker` do the work.
"""
