"""People at robots' screens, terminals, files and processes, on whichever replica each of the two is connected."""
