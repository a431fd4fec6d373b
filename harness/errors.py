"""The exceptions that are meant for people."""


class PrefduelError(Exception):
    """Root of this project's own exceptions; anything else that escapes is a bug."""


class UserError(PrefduelError):
    """The user's mistake: one line that says where, what rule, what was found, what to do. Exit code 2."""


class StageFailed(PrefduelError):
    """A stage ended without a finished record. Contained: what does not depend on it goes on."""
