"""The one exception that carries a message for the person at the keyboard."""

LONGEST = 2000
"""Characters of a message; what comes from outside may be of any length."""


class InputError(ValueError):
    """Something that was handed in is wrong: a file, a sequence, a checkpoint, a setting.

    The message is one line that says what is wrong, where, and what to do about it. The command
    line prints it and exits with status 2.
    """

    def __init__(self, message: str):
        # Names of files and tensors come from outside, and may hold line breaks.
        line = " ".join(message.splitlines())
        shown = "".join(each if each.isprintable() else "\ufffd" for each in line)
        half = LONGEST // 2
        long = len(shown) > LONGEST
        super().__init__(f"{shown[:half]} ... {shown[-half:]}" if long else shown)
