"""Frames as they come, recorded or live: their order, which two make a pair, what waits and what is dropped."""
