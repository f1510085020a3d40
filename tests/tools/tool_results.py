"""What the tests of the tools read out of a tool's result."""


def error_of(result):
    """The one line that a user's mistake gets."""
    assert result.code == 2, result.err
    (line,) = (line for line in result.err.splitlines() if 'error: ' in line)
    assert 'Traceback' not in result.err
    return line
