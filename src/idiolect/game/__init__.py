"""The word game: base words, what players' answers are, and what they score. Plain values; no store, no torch, no clock."""
