"""Nurseries of actors, and how they take their children down."""
