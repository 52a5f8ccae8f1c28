"""A TLS 1.3 connection that evidence can be bound to, as both of its ends speak it.

Consumer and serving machine import it. It judges nothing, and opens no connection: it is given
one. Needs pyOpenSSL, since Python's `ssl` has no exporter.
"""
