"""A confidential machine on Azure, created and destroyed with terraform."""
