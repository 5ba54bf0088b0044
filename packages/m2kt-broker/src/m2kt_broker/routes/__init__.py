"""HTTP: a file a subject. Routes parse, call the service, and answer with a view."""
