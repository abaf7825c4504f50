"""A hospital's doors: what archives and scanners send, fetched or dropped, goes through the intake as uploads do."""
