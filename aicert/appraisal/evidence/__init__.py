"""One file for each kind of evidence that not every policy asks for: how it is read and judged."""
