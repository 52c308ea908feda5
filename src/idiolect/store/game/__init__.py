"""The word game's rows: players, rounds, answers, pairs, judgements."""
