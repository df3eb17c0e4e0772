"""What comes from elsewhere, as a terminal may be shown it."""

import json


def printable(text: str) -> str:
    """The text, with whatever would steer a terminal, or show otherwise than it reads, spelt as JSON spells it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
