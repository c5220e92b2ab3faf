"""How fast and how large: stages, frames a second, memory, beside the released way and what the device can do."""
