"""What an actor's control socket answers, put together."""

from __future__ import annotations

import trio

from tractor.control._acting import acting_of
from tractor.control._answers import Answers
from tractor.control._passing import Look, Question
from tractor.control._recording import recordings_of
from tractor.control._relay import below, pass_on
from tractor.control._serving import Later, Serving
from tractor.control._socket import ControlSocket
from tractor.runtime._actor import Actor


def serving_of(
    actor: Actor, root: trio.lowlevel.Task, control: ControlSocket, loop: int | None, samples: Look
) -> Serving:
    """What answers for an actor at its control socket.

    Args:
        actor: it.
        root: the root task of its run.
        control: where users ask.
        loop: the ident of the run's thread.
        samples: how an actor does, as its parent asks it.
    """
    acts = acting_of(actor).acts if control.may_act else {}
    question = Question("samples", samples, {})
    later: dict[str, Later] = {
        "pass": lambda request, pid: pass_on(actor, request, pid, control.may_act),
        "below": lambda request, _pid: below(actor, request, question),
    }
    feeds = {"record": recordings_of(control.token).begin}
    # It answers `hello`; what else there is, is the socket's business.
    answers = Answers(actor, root, loop, lambda: {**acts, **control.acts}, [*later, *feeds])
    return Serving(
        control,
        answers.in_thread,
        answers.either,
        acts,
        feeds,
        later,
        actor.io_nursery.start_soon,
    )
