"""One file for each group of checks; each either records a result or ends the appraisal."""
