"""Which checkpoint serves: swaps of this replica, and agreement with the others."""
