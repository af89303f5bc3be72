"""What a measurement raises on purpose."""


class EvaluationError(Exception):
    """Something cannot be measured. The text is a sentence for whoever asked for it."""


class BadPlan(EvaluationError):
    """What was asked for cannot be measured on any pictures."""
