"""The one exception that stands for a user's mistake."""

HEAD, TAIL = 500, 200
"""What is kept of a longer message: where the fault is, and the cure."""


class UserError(Exception):
    """A mistake of the user, told so that the user can mend it.

    The message is one clear line: what is wrong, where (the file, the field, the option), and the
    cure. The command prints it without a traceback and exits with code 2. Anything else that
    escapes is a defect of ours. Messages quote what a file holds, which may be of any length: of
    a very long one the middle is left out.
    """

    def __init__(self, message: str) -> None:
        long = len(message) > HEAD + TAIL
        super().__init__(f"{message[:HEAD]} ... {message[-TAIL:]}" if long else message)
