"""DVC: its environment, what it tracks for us, and what nobody may have changed."""
