"""What a person does on a robot from afar: see its screen, use its terminal, its files and its processes."""
