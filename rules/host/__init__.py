"""The ground of the rules: environments, processes, locks, progress and the terminal."""
