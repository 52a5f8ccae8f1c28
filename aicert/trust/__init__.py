"""What is trusted: pinned roots, reference values, built-in policies, policy files."""
