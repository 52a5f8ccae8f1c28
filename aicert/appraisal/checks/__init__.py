"""One file for each group of checks; what comes of each is recorded in the checklist."""
