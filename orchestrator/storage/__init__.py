"""MongoDB through motor. Nothing outside this package imports a database driver."""
