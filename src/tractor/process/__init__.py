"""Facts about processes, and what a process of a tree has: its state, its sentinel, its title."""
