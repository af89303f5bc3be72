"""Why weights could not be fetched or stored; each message ends with what to do about it."""


class PullError(Exception):
    """The base. The message says what failed, what was expected and received, and the remedy."""


class NoAnswer(PullError):
    """A server does not answer, or does not have the file."""


class WrongFile(PullError):
    """A file is not the one in the manifest; existing files stay as they were."""


class NoSpace(PullError):
    """There is not enough disk space."""


class BadPickle(PullError):
    """A checkpoint contains something other than weights, or nothing that torch can read."""


class Incomplete(PullError):
    """Files are missing from a folder to import from."""
