"""Definitions that every robot has. Like robot code they run in processes of their own."""
