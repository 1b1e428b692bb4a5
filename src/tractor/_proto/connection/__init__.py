"""One connection: who may talk, frames, and what a payload may hold."""
