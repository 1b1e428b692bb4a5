"""Decoding without harm, whatever a peer sends."""
