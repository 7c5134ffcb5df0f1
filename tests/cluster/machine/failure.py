"""What stops a command, said in one sentence to the person who ran it."""


class Failure(Exception):
    """The message says what is missing or went wrong, and what to do next."""
