"""What somebody meant who gave a name that there is not."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about an unknown name: `; did you mean …?` with the nearest known one, or a full stop."""
    known = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), known, 1)
    return f"; did you mean {prefix}{known[near[0]]}?" if near else "."
