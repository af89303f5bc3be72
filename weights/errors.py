"""Why weights could not be fetched or kept, each with a sentence that ends in the remedy."""


class PullError(Exception):
    """The base: what failed, what was expected, what came instead, what to do about it."""


class NoAnswer(PullError):
    """A server does not answer, or does not have the file."""


class WrongFile(PullError):
    """A file is not the one that the manifest names; what was there before is still there."""


class NoSpace(PullError):
    """The disk is too small."""


class BadPickle(PullError):
    """A checkpoint holds something other than weights, or nothing that torch can read."""


class Incomplete(PullError):
    """A folder to import from lacks files."""
