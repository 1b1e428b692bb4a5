"""Replacing a subactor by a fresh process, while somebody debugs it."""

from __future__ import annotations

import trio

from tractor import log as _log
from tractor._errors import RuntimeFailure
from tractor.address._types import mk_uuid
from tractor.msg.types import Aid
from tractor.runtime._portal import Portal
from tractor.spawn._contract import selected_start_method
from tractor.supervise._child import Child
from tractor.supervise._children import Children
from tractor.supervise._one_shot import start_awaiting

log = _log.get_logger()


def respawn(children: Children, child: Child) -> bool:
    """Have a fresh process take a subactor's place: same name, modules and settings, and a uuid of its own.

    Its portal leads to the new one afterwards, and a one-shot whose function has not ended runs it again.  What
    goes wrong with the new one is an error of the nursery's, as with any subactor.

    Returns:
        Whether its function is run again.

    Raises:
        RuntimeFailure: it can't be replaced; says why.
    """
    portal, method = child.portal, selected_start_method()
    why = ""
    if children.refusal:
        why = "its nursery is at its end, and takes all of its actors down"
    elif child.recipe is None or portal is None or child.state != "running":
        why = f"it is {child.state}"
    elif "fork" in method:
        why = (
            f"the backend {method!r} would fork it off this process, where the code is the old one"
        )
    if why:
        raise RuntimeFailure(f"{child.aid.reprol()} can't be respawned: {why}")
    assert portal is not None
    # At once, not in the task: the end of the old process must not count as the function's.
    again = child.main is not None and child.main.give_up()
    children.replacing += 1
    children.tn.start_soon(
        _replace, children, child, portal, again, name=f"respawn of {child.aid.name}"
    )
    return again


async def _replace(children: Children, old: Child, portal: Portal, again: bool) -> None:
    recipe, main = old.recipe, old.main
    assert recipe is not None
    new = children.new_child(Aid(old.aid.name, mk_uuid()), recipe, old.bind_addrs)
    new.main = main
    try:
        await old.take_down(hard_kill=False)
        fresh = await children.start_process(new, children.tn)
        portal.chan = fresh.chan
        new.portal = portal
        if again and main is not None:
            start_awaiting(children, new, main, main.begin(portal))
        log.devx("%s has taken the place of %s", new.aid.reprol(), old.aid.reprol())
    except trio.Cancelled:
        raise
    except Exception as exc:
        children.fail(new.uid, exc)
    finally:
        children.replacing -= 1
        children.changed.unpark_all()
