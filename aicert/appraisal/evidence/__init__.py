"""One module for each kind of evidence that not every policy asks for: it reads and judges it."""
