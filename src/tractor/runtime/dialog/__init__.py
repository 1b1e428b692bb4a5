"""The dialogs of two actors: calls, one-way streams, contexts and their streams."""
