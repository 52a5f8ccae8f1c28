"""What is installed of this project, beside the verifier: all that `./doit` needs elsewhere."""
