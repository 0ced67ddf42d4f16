"""What can end a verification."""


class Refused(Exception):
    """The proof does not prove what it says. The message says why."""


class Misuse(Exception):
    """The verifier was called wrongly: no such file, a key that is none."""


class NotRecomputed(Exception):
    """Something can't be recomputed here; it says nothing against the record."""
