"""What is installed besides the verifier: everything that `./doit` needs in other repositories."""
