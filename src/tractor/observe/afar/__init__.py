"""Actors that no control socket of this host leads to."""
