"""Tests that hang: time limits, and what was going on when one was over."""
