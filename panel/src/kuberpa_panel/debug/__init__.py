"""The Debug page: find a definition, fill its form, run it, watch it, and run it again."""
