"""The steps from one schema to the next; run by `idiolect.store.database` when a store is opened."""
