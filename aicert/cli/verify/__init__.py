"""`aicert verify`: appraise what the user names, and show the result.

It may import what verifying may, and no export, signature, source, log or lease.
"""
