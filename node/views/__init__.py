"""Views: indexes derived from the log, for queries that streams cannot answer."""
