"""A file of services: its tables, what is wrong with it, and what differs from another."""
