"""The leaks and departures of the published scripts; imported only where a config asks for them."""
