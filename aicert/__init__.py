"""aicert: check that a model was made from what its lockfile names, inside a measured machine."""
