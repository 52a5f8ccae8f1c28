"""`aicert show`: what a certificate claims, without a verdict. It may import what `verify` may."""
