"""Counts in words."""

from __future__ import annotations

from collections.abc import Mapping


def counted(count: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def counts_by_reason(counts: Mapping[str, int]) -> str:
    """``frame_gap 2, no_partner 1``; empty if there are none."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
