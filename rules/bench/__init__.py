"""What `./doit bench` measures, one file a subject."""
