"""Measurements: each command prints ratios against a baseline of the same run, and checks the books afterwards."""
