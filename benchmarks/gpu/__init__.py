"""What one call measures on a GPU: `python -m benchmarks.gpu --help`."""
