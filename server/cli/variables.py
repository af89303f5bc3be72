"""Variables that begin like settings and are none: somebody has misspelt one."""

import difflib
import os
import sys

from server import ENV_PREFIX
from server.cli.texts import printable
from server.settings import Settings

# Read by commands and by the client, not by the server.
_OTHERS = (f"{ENV_PREFIX}URL", f"{ENV_PREFIX}KEY")


def unknown_variables() -> list[str]:
    """A sentence for each, with the nearest right name if one is near."""
    known = [*(f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields), *_OTHERS]
    sentences = []
    for name in sorted(os.environ):
        # On Unix pydantic-settings takes names in any case.
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in known:
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
        meant = f": did you mean {near[0]}?" if near else ", and has no effect."
        sentences.append(f"{printable(name)} is no setting{meant}")
    return sentences


def warn_of_unknown_variables() -> None:
    """Say so on standard error."""
    for sentence in unknown_variables():
        print("face-detailer:", sentence, file=sys.stderr)
