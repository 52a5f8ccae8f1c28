"""One file for each group of checks; the checklist records each result."""
