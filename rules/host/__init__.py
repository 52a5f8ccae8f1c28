"""What all other rules build on: environments, processes, locks, progress and the terminal."""
