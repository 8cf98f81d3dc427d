"""Commands beside `rlnas train`; each is imported when it is called, so that the others do not pay for it."""
