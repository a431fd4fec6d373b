"""What goes wrong inside a stage and has a clear, one-line reason."""


class PipelineError(ValueError):
    """A reason that a person can act on: bad rows, a window too small, a model that does not load."""


class NotFinite(PipelineError):
    """The loss or a gradient became NaN or infinite."""


class Diverged(PipelineError):
    """The loss left the place where it began, upwards, and did not come back."""


class DoesNotLoad(PipelineError):
    """A model or a tokenizer that transformers does not load; its own error is the cause."""
