"""The REPL of an actor whose root, and so its terminal, is on another host."""
