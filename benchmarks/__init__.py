"""Speed against rivals and limits: `python -m benchmarks.run`."""
