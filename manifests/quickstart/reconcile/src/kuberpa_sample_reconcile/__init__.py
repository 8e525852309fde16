"""Reconciles what a bank says was paid with what was invoiced.

`statement` and `register` read the two files, `matching` decides, `report` writes, `activity` is what a robot runs.
"""
