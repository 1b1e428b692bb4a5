"""Small helpers on plain trio that every layer may use."""
