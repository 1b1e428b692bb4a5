"""What others keep of a subactor and of a registration, as far as this actor's runtime needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any, Protocol

from tractor._proto.registrars import Down
from tractor.address._types import UnwrappedAddress
from tractor.ipc._chan import Channel, PeerProcess
from tractor.msg.types import Error, Uid
from tractor.process._stat import ProcessId


class ServiceRecord(Protocol):
    """A service, as far as those who look at its actor want to know."""

    restarts: int
    error: BaseException | None

    @property
    def name(self) -> str:
        """Its name, which is its actor's."""


class ChildRecord(PeerProcess, Protocol):
    """What a nursery keeps of a subactor, as far as this actor's runtime needs it."""

    chan: Channel | None
    """The one channel on which it has proven who it is."""

    def prove(self, chan: Channel, claim: bytes) -> bool:
        """Whether ``claim`` is its secret, that nobody has shown before: from now on ``chan`` is its channel."""

    def owns(self, chan: Channel) -> bool:
        """Whether its process is at the other end of a channel, as far as this host can tell."""

    def on_ready(self, accept_addrs: list[UnwrappedAddress]) -> None:
        """The child is configured and serves."""

    def on_goodbye(self, canceller: Uid | None) -> None:
        """The child ends because it was cancelled."""

    def on_boot_error(self, error: Error) -> None:
        """The child could not be configured."""

    def on_progress(self, left: int, rung: int, needs: float = 0.0) -> None:
        """The child still works down its own subactors; see :class:`~tractor._proto.children.ladder.Progress`."""

    def on_descendants(
        self, up: Iterable[ProcessId], gone: Iterable[int]
    ) -> tuple[list[ProcessId], list[int]]:
        """Processes below the child have started or ended, as it says; those of which it is true."""

    def note_cancel_request(self) -> None:
        """A portal of this actor asks the child to cancel, so its end is not a failure."""

    def on_portal_cancel(self, acked: bool, waited: float) -> None:
        """A portal has asked it to cancel, and waited so many seconds for the acknowledgment."""

    async def wait_gone(self) -> None:
        """Wait for the end of its process.  Raises RuntimeError: its nursery would wait for us."""

    def on_repl_change(self, restart: bool = False) -> None:
        """An actor in or below this one has asked for the debugger's REPL, or is done with it."""

    needs: float
    """Seconds that it needs for its own subactors, as it says."""

    descendants: dict[int, ProcessId]
    """The processes below it on this host, as it has told and the kernel says, by their pids."""

    @property
    def rung(self) -> int:
        """How far down its ladder it is; 0: not on its way."""

    service: ServiceRecord | None
    """The service that it is a life of."""

    armed: bool
    """It was started in debug mode."""

    @property
    def asked_to_go(self) -> bool:
        """Whether this actor has asked it to cancel, or sends it signals so that it ends."""

    respawn: Callable[[], bool] | None
    """Replaces it by a fresh process; whether its function is run again.  Raises RuntimeFailure."""

    def info(self) -> Any:
        """Its identity, pid, portal and state, as ``ActorNursery.children`` shows them."""


class RegistrationRecord(Protocol):
    """What keeps this actor registered, as far as the actor itself needs it."""

    def link(self, addr: UnwrappedAddress) -> Channel | None:
        """The channel that keeps the registration at an address; ``None`` when there is none now."""

    def reg_addrs_changed(self) -> None:
        """Follow the actor's new list of registrars."""

    def report_lost(self, uid: Uid) -> None:
        """Tell the registrars that the host of a subactor is lost."""

    async def stop(self) -> None:
        """Unregister everywhere, as far as that can be done in a bounded time; may be called again."""

    async def enter_itself(self) -> None:
        """Enter this actor, which is a registrar, into its own table."""

    @property
    def down(self) -> Down[Any]:
        """Those of its registrars that do not answer."""


class RegistryRecord(Protocol):
    """What makes this actor a registrar, as far as the actor itself needs it."""

    def home(self) -> Set[UnwrappedAddress]:
        """Where it listens as a registrar."""

    def on_channel_lost(self, chan: Channel) -> None:
        """A peer's channel has ended: drop what was registered over it."""

    def note_host_lost(self, uid: Uid) -> None:
        """The host of a registered actor is lost: drop what was on it below that one, and tell who is registered."""
