"""The error for a loss that cannot be measured."""


class CannotMeasureError(Exception):
    """Raised if the loss cannot be measured; the verdict shows the message."""
