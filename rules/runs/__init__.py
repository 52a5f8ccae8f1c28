"""A run from request to certificate: certify, verify, reproduce, exports, graph."""
