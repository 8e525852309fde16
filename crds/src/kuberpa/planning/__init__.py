"""When a Schedule fires, and why: pure, for operator, panel and command line alike. Extra `kuberpa[planning]`."""
