"""Which relation holds between two words: a classifier beside the game, learnt from benchmarks, WordNet and players."""
