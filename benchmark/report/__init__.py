"""Figures and tables from benchopt's result files: ``python -m benchmark.report --help``."""
