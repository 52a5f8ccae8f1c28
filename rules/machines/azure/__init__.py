"""A confidential machine of Azure, made and removed with terraform."""
