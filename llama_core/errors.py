"""`UserError`, the base class of every error that a person can mend."""


class UserError(ValueError):
    """A mistake that whoever runs or uses the app can correct: in a file, a setting, a message or a choice of model.

    Its text is one line: the thing, what was found, what was expected, what to do. Code that talks to people catches
    this one class and shows the text; all other exceptions are bugs or failures of the machine.
    """
