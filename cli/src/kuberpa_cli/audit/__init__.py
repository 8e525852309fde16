"""`kuberpa audit`: who did what, and whether the trail of it is whole."""
