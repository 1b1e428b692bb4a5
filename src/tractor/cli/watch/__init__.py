"""Commands that look at running actors, or act on them, from outside."""
