"""Who may do what: clients' keys, known by their hashes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from bandit_router.service.config import KeySection, Scope
from bandit_router.service.replies import Refused


class Keys:
    """The keys of the configuration; without any, everybody may do everything, on a loopback address alone."""

    def __init__(self, sections: Sequence[KeySection]) -> None:
        self._sections = tuple(sections)

    def check(self, headers: Mapping[str, str], scope: Scope) -> str | None:
        """Name of the key that came with a request, None without keys. Raises Refused unless it has the scope."""
        if not self._sections:
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ").strip() or headers.get("x-api-key", "")
        digest = hashlib.sha256(given.encode()).hexdigest()
        found = None
        for section in self._sections:  # all of them, whichever it is: the time taken tells nothing
            if hmac.compare_digest(section.sha256, digest):
                found = section
        if found is None:
            raise Refused(401, "no such key", kind="authentication_error", code="invalid_api_key")
        if scope not in found.scopes and "admin" not in found.scopes:
            message = f"key {found.name!r} has not the scope {scope!r}"
            raise Refused(403, message, kind="permission_error", code="scope")
        return found.name
