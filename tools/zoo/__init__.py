"""The zoo: real exports of every architecture family, checked in one matrix."""
