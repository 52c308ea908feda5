"""Speed and memory, measured against the peers in one interleaved run. `python -m idiolect.bench --help` lists the runs."""
