"""The rules of a supervisor of services: what starts, stops and comes again, and how often."""
