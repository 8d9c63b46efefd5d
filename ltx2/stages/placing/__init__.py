"""Networks larger than the device: how their layers come to it while it computes."""
