"""Text on its way to a terminal."""


def printable(text: str) -> str:
    """The text as it may go to a terminal: control characters and the like become escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
