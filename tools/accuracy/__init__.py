"""What pruning costs trained models: every method, at several ratios, on the same calibration data."""
