"""Masks: which single weights stay. Pure numpy over matrices `[rows, columns]`, y = W x."""
