"""What people see: commands, check tables, progress. Decides nothing."""
