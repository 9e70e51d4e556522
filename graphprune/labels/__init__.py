"""The language that rules are written in: labels of axes, what a rule reads and says, and what it leaves."""
