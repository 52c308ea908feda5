"""The word game on the web: pages, and the requests behind them."""
