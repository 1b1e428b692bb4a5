"""What makes an actor a registrar: the table, and what peers may ask of it."""
