"""How extraction scales: the driver with many workers, the share of time outside the model, a model of the cost."""
