"""How long the runtime waits where a promise depends on it, in seconds.

One wait often stands inside another one, of another actor: then the inner one has to end first, or the outer one takes
an actor that keeps its promise for one that does not.  `ORDER` says which; a test checks it.  Limits that a peer
cannot pass are not here, but in `limits`; pauses between two attempts stand where they are made.
"""

from __future__ import annotations

from typing import Final

# -- a caller that is cancelled ------------------------------------------------------------------------

CANCEL_TIMEOUT: Final = 0.616
"""A cancelled caller, and an open context, waits for the end of the remote task."""

# -- the ladder of a child (`ladder`) ------------------------------------------------------------------

BOOT_GRACE: Final = 0.5
"""A child that still boots can take no request: it may become ready."""
ACK_TIMEOUT: Final = 0.5
"""An actor that was asked to cancel says that it was."""
EXIT_TIMEOUT: Final = 1.6
"""After that its process ends; each note of progress starts this anew."""
PROGRESS_INTERVAL: Final = 0.5
"""An actor that works down its own subactors says so."""
PROGRESS_TIMEOUT: Final = 30.0
"""Between two of these notes that tell of an advance."""
NEEDS_LIMIT: Final = 600.0
"""Instead of that, at most, where the notes state that the actor's services need so long."""
TERM_TIMEOUT: Final = 0.5
"""After SIGTERM the process ends; then comes SIGKILL."""

# -- the loss of the parent ----------------------------------------------------------------------------

LOSS_TIMEOUT: Final = 2.0
"""No process outlives its parent by more."""
LEAVE_AFTER: Final = 1.0
"""An actor that has lost its parent ends by itself; then its lifeline ends the process by force."""
SENTINEL_GRACE: Final = 1.3
"""Then the sentinel kills what can run no thread, and an actor the processes of its fork server that was killed."""
DESCENDANTS_TIMEOUT: Final = 1.6
"""The nursery of a child that was killed waits for the child's own subactors, which have lost their parent."""

# -- another host (`lease`) ----------------------------------------------------------------------------

LEASE_SLACK: Final = 0.15
"""An agent that has not begun to leave so long after the end of its lease counts as stopped, and is killed."""
TEARDOWN_TIME: Final = 1.7
"""So long after the end of a lease, or of its agent, nothing of what the agent held is left.

What can end by itself does so within `LEAVE_AFTER`, and all else is killed after `SENTINEL_GRACE`: by the agent; where
that was stopped by its sentinel, which kills it first; and below an actor that was stopped by that one's own sentinel,
which sees the agent's end.  The rest is for the looks of these loops, and for the machine over there to be busy.
"""

# -- the end of an actor -------------------------------------------------------------------------------

UNREGISTER_TIMEOUT: Final = 0.5
"""Saying goodbye to one registrar; to all of them at the same time."""
EXPORT_TIMEOUT: Final = 0.9
"""An SDK of OpenTelemetry exports what it still holds; at the same time the actor unregisters."""
PEERS_TIMEOUT: Final = 3.0
"""Peers disconnect from an actor that ends."""
DELIVERY_TIMEOUT: Final = 0.5
"""What a child that died had sent is still read and delivered."""
END_TIMEOUT: Final = 0.5
"""The error of a lost dialog waits for the end of the child's process, to say how that ended."""
CLOSING_TIME: Final = 0.3
"""The sockets of a process that counts as dead are closed."""

# -- a signal that several processes get ---------------------------------------------------------------

SIGNAL_PATIENCE: Final = 0.25
"""A root waits for a signal of its own which a subactor has got already."""
WORD_TIMEOUT: Final = 1.0
"""A subactor waits for its parent's word whether the signal came there, too."""

ORDER: Final[tuple[tuple[str, float, float], ...]] = (
    ("a forced exit comes before the sentinel", LEAVE_AFTER, SENTINEL_GRACE),
    ("the sentinel keeps the promise of a loss", SENTINEL_GRACE, LOSS_TIMEOUT),
    (
        "what an agent held is gone when it counts as gone",
        LEASE_SLACK + SENTINEL_GRACE,
        TEARDOWN_TIME,
    ),
    ("a lost host keeps the promise of a loss", TEARDOWN_TIME, LOSS_TIMEOUT),
    ("a nursery waits for what the sentinel kills", SENTINEL_GRACE, DESCENDANTS_TIMEOUT),
    (
        "a nursery that waits for a killed child's own keeps the promise",
        DESCENDANTS_TIMEOUT,
        LOSS_TIMEOUT,
    ),
    ("a note of progress comes before the exit is overdue", PROGRESS_INTERVAL, EXIT_TIMEOUT),
    ("an exit is not overdue while the actor unregisters", UNREGISTER_TIMEOUT, EXIT_TIMEOUT),
    ("an exit is not overdue while spans are exported", EXPORT_TIMEOUT, EXIT_TIMEOUT),
    ("an exit is not overdue while a last call is given up", CANCEL_TIMEOUT, EXIT_TIMEOUT),
    ("an advance may take several notes", EXIT_TIMEOUT, PROGRESS_TIMEOUT),
    (
        "the root has looked for its signal before a subactor acts alone",
        SIGNAL_PATIENCE,
        WORD_TIMEOUT,
    ),
)
"""What must be, the shorter time, the longer one."""
