"""What changed between two revisions of the lockfiles, for a pull request."""
