"""Published formats and plain files become tables; each importer returns a `rlnas.tables.Table`."""
