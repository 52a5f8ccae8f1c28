"""The one trainer so far: rules for its config, the training, what it reports."""
