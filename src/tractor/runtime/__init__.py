"""The runtime of one actor: message loop, RPC, portals, contexts and streams."""
