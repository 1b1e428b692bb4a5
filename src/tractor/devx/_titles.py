"""Process titles, as users set them; an actor's own start sets its title by itself."""

from __future__ import annotations

from tractor.process._title import set_actor_proctitle

__all__ = ["set_actor_proctitle"]
