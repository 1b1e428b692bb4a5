"""Seeing running trees from outside: finds actors, asks them, and makes of it what the commands show."""
