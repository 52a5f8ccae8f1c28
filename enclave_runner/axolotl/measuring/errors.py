"""Why a loss cannot be measured."""


class CannotMeasureError(Exception):
    """The message is shown in the verdict."""
