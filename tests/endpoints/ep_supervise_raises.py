"""Can't be imported."""

raise LookupError("ep_supervise_raises is broken on purpose")
