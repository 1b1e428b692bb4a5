"""Services that come back: supervisors, their services, and what those are started with."""
