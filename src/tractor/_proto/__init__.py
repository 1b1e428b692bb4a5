"""Pure protocol machines: events in, instructions out; no socket, no clock, no await."""
