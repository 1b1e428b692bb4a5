"""Who has the terminal: the tree's lock, the way to it, and holding it."""
