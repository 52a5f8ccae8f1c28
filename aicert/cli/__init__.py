"""What people see: commands, check tables, progress. It decides nothing."""
