"""Where states of running sessions and their large parts are kept: in memory, or in folders that several processes
share."""
