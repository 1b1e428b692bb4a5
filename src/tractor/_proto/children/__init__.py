"""Subactors as their parent sees them: their life, the way they are made to go, what their nursery raises."""
