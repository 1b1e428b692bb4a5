"""Who may look: tokens that are good once, and the secrets that they are exchanged for.  Pure."""

from __future__ import annotations

import hmac
import secrets
from collections import deque

BYTES = 32
"""Of a token, and of a secret."""

MOST_TOKENS = 8
"""That nobody has used yet; a further one takes the place of the oldest."""

MOST_SECRETS = 64
"""A further one takes the place of the oldest."""


class Doors:
    """What opens the page."""

    def __init__(self) -> None:
        self._tokens: deque[str] = deque(maxlen=MOST_TOKENS)
        self._secrets: deque[str] = deque(maxlen=MOST_SECRETS)

    def new_token(self) -> str:
        """A token for one who is to look."""
        token = secrets.token_urlsafe(BYTES)
        self._tokens.append(token)
        return token

    def exchange(self, token: str) -> str | None:
        """The secret for a token, which is used up now; ``None``: it is wrong, or used up."""
        known = _equal_one(token, self._tokens)
        if known is None:
            return None
        self._tokens.remove(known)
        secret = secrets.token_urlsafe(BYTES)
        self._secrets.append(secret)
        return secret

    def knows(self, secret: str) -> bool:
        """Whether it is one that a token was exchanged for."""
        return _equal_one(secret, self._secrets) is not None


def _equal_one(given: str, known: deque[str]) -> str | None:
    """The one that is equal, found in a time that tells nothing of how much is."""
    found = None
    text = given.encode("utf-8", "surrogatepass")
    for one in known:
        if hmac.compare_digest(text, one.encode()):
            found = one
    return found
