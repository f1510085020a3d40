"""The one kind of error that the tools turn into one line instead of a traceback."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a config key, a row, an argument.

    The message is one line that says what is wrong, where (file, key, row), and what to do.
    The command line tools print it without a traceback; a library caller can catch it as a
    ``ValueError``.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that the user named, or that a config needs, is not there."""
