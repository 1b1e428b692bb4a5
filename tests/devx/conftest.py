"""The fixture of tests that need a user at the terminal."""

from repl_user import user as user
