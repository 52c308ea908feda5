"""What lasts: histories and adapters, in SQL and in content-addressed files. Import from the modules, not from here."""
