"""A foreground process manager: services from a file, their output, and who asks from outside."""
