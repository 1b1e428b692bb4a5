"""Process titles, as users set them; an actor's own start sets its title by itself."""

from __future__ import annotations
