"""What ``benchopt test`` cannot ask of every plugin."""

import pytest


def check_test_dataset_get_data(dataset):
    """Two datasets need files of the user's or a download: tests/test_images.py tests them."""
    if dataset.name in ("Folder", "Downloads"):
        pytest.skip(f"{dataset.name} needs images that do not ship with the benchmark")
