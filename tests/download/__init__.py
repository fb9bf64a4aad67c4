"""Downloads of data sets, from a server on this machine."""
