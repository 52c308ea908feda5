import os

# OpenMP's spinning barrier makes a two-thread product three times slower beside one busy neighbour; sleeping costs nothing
# alone. It is read once, when torch loads, so it is set by the first room that loads torch; a user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
