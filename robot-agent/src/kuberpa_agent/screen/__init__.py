"""The robot's screen: what it shows (capture), and what a hand would do to it (input). Loaded only when needed."""
