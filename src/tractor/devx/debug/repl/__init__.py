"""The REPL itself, and pausing in sync code."""
