"""Fills a queue of invoices from a CSV export, and posts them one by one."""
