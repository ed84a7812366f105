"""Which arms may be drawn, in this process and in its store: a change made here is in force at once, and kept later."""

from __future__ import annotations

from collections.abc import Iterable

from bandit_router.records.arms import Arm, Catalogue
from bandit_router.settling.learner import Learner
from bandit_router.store.ledger import Ledger


def set_statuses(catalogue: Catalogue, statuses: Iterable[tuple[str, str]]) -> None:
    """Pause, resume and retire the arms that the catalogue has; a retired one stays so."""
    for arm_id, status in statuses:
        if arm_id in catalogue.ids and catalogue.status(arm_id).value not in (status, "retired"):
            {"active": catalogue.resume, "paused": catalogue.pause, "retired": catalogue.retire}[status](arm_id)


class Statuses:
    """The statuses that one process has set and its store does not have yet; until it has, they go before the store's.

    Without them the writer would undo a change that comes between its look into the store and what it makes of it, or
    that the store could not take.

    Args:
        learner: its catalogue is kept in step, under its lock.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._unsaved: dict[str, str] = {}

    def change(self, arm_id: str, status: str) -> None:
        """Put a status in force here, to be saved; for the threads of requests."""
        with self._learner.lock:
            set_statuses(self._learner.catalogue, [(arm_id, status)])
            self._unsaved[arm_id] = self._learner.catalogue.status(arm_id).value  # or it was retired meanwhile

    def keep(self) -> None:
        """Have every status but `active` saved again: the store may have gone back to before it was."""
        with self._learner.lock:
            catalogue = self._learner.catalogue
            for arm_id in catalogue.ids:
                if catalogue.status(arm_id).value != "active":
                    self._unsaved.setdefault(arm_id, catalogue.status(arm_id).value)

    def save(self, ledger: Ledger) -> None:
        """Write what is not saved yet; for the writer, like the rest."""
        with self._learner.lock:
            unsaved = list(self._unsaved.items())
        for arm_id, status in unsaved:
            kept = ledger.set_status(arm_id, status)
            with self._learner.lock:
                if kept == "retired" or self._unsaved[arm_id] == status:  # and not changed again meanwhile
                    del self._unsaved[arm_id]
                    set_statuses(self._learner.catalogue, [(arm_id, kept)])

    def follow(self, stored: Iterable[tuple[Arm, str]]) -> None:
        """Take over the statuses that were read from the store, but of arms whose status is not saved yet."""
        with self._learner.lock:
            read = ((arm.id, status) for arm, status in stored if arm.id not in self._unsaved)
            set_statuses(self._learner.catalogue, read)

    def adopt(self, loaded: Learner) -> None:
        """Go on from the state that was loaded, with what was changed here before."""
        with self._learner.lock:
            self._learner.adopt(loaded)
            set_statuses(self._learner.catalogue, self._unsaved.items())
