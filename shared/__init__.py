"""What every MPA service shares: contracts, settings, storage, state, wire clients. Imports no service."""
