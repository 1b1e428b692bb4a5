"""The REPL from another terminal."""
