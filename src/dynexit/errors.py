"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake of the user, told so that the user can mend it.

    The message is one clear line: what is wrong, where (the file, the field, the option), and the
    cure. The command prints it without a traceback and exits with code 2. Anything else that
    escapes is a defect of ours.
    """
