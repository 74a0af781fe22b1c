"""What the files in ``solvers/``, ``datasets/`` and ``objective.py`` inherit."""
