"""Everything that `pipeline` raises on purpose, each with a sentence for the picture's sender."""


class PipelineError(Exception):
    """The base of all errors of this package."""


class InvalidImage(PipelineError):
    """The bytes are no picture that can be read: the sender's fault."""


class ImageTooLarge(InvalidImage):
    """The picture passes a size limit; the text names the limit."""


class InvalidValue(PipelineError):
    """A value type was built from something it does not allow. Message: expected, then got."""


class InvalidProfile(PipelineError):
    """A profile file is missing, cannot be read, or has a key or a value that is not allowed."""


class WeightsError(PipelineError):
    """A file of weights is missing, or is not what its profile says."""


class OutOfMemory(PipelineError):
    """The device's memory does not hold the smallest piece that the work can be cut into."""


class ModelFailed(PipelineError):
    """No face got a usable repaint: the model's values were not finite, or of a single colour."""


class Stopped(PipelineError):
    """`should_stop` answered True: the caller no longer wants the result."""
