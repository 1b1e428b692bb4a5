"""The trace of a tree: what its actors have told for some seconds, as a file that a viewer reads."""
