"""DVC: its environment, what it tracks for us, and checks that nobody changed the bytes."""
