"""What all rooms' errors have in common."""


class UserError(ValueError):
    """Something that the person in front of it can mend: one line that names the thing, what was found, what was
    expected and what to do. Whoever talks to people catches this one class and shows its text."""
