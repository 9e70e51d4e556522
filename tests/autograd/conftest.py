"""Tests that import torch are collected only where it is installed."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["test_written.py"]
