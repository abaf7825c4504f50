"""Words by which a result is found, the same when it is written and when it is asked for."""

import re

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 80
LAST_LETTER = "\U0010ffff"  # after every word that begins alike


def split_words(*texts: str) -> set[str]:
    """Return the words of texts in lower case; a name such as `coco_0001.png` has three."""
    return {word[:_LONGEST] for text in texts for word in _WORD.findall(text.casefold())}
