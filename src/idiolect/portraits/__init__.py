"""A player's portrait: an adapter of their own, held against what most people say, and what it tells about their words."""
