"""Addresses: what one is, how it is spelled, and whether it may be used."""
