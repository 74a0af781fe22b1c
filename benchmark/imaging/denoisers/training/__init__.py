"""Training of a larger DRUNet on a folder of photographs, within a budget, resumable.

``python -m benchmark.imaging.denoisers.training --help`` says how it is run.
"""
