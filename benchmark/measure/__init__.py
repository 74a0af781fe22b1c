"""Counting, timing, memory, device, failure, reference, evaluation, provenance."""
