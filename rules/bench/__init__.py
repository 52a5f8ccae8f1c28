"""What `./doit bench` measures, one file per subject."""
