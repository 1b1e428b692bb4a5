"""What an actor keeps and tells for those who look at it."""
