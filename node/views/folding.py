"""Folding: one form for texts that a person would call the same, so that a look-up finds what was meant.

Compatibility decomposition, then Unicode's case folding, then decomposition again, since folding can compose. Accents
stay: `é` equals `É` and its decomposed form, and not `e`. Source: Unicode Standard, section 3.13 (D146).
"""

import unicodedata


def fold(text: str) -> str:
    """The folded form; folding it again changes nothing."""
    if text.isascii():
        return text.lower()
    return _decomposed(_decomposed(text).casefold())


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFKD", text)
