"""The graphical session that a robot works in: held on a screen of its own, or observed where it is somebody's."""
