"""A context and its stream: the life of both sides, and how much may be sent."""
