"""Calibration data: pools of samples from files, and the choice of those that stand for the rest."""
