"""Actors on other hosts."""
