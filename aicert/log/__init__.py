"""A transparency log in a folder: to keep, prove, check, mirror, witness, search and show it.

The folder is what C2SP's tlog-tiles serves: copied to any web server or object store, it is the
log. No verdict on a certificate needs this room.
"""
