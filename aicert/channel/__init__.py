"""A TLS 1.3 connection that evidence can be bound to, as both of its ends speak it.

The consumer and the serving machine import this room. It judges nothing, and opens no connection:
it is given one. It needs pyOpenSSL, since Python's `ssl` has no exporter.
"""
