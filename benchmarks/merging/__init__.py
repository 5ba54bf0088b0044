"""Several teachers of one table: planted conflicts, halves, architectures (``python -m benchmarks.merging``)."""
