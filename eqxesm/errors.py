"""The one exception that carries a message for the person at the keyboard."""


class InputError(ValueError):
    """Something that was handed in is wrong: a file, a sequence, a checkpoint, a setting.

    The message is one line that says what is wrong, where, and what to do about it. The command
    line prints it and exits with status 2.
    """

    def __init__(self, message: str):
        # Names of files and tensors come from outside, and may hold line breaks.
        super().__init__(" ".join(message.splitlines()))
