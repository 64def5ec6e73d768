"""The Yahoo client: session, requests, parsing and errors. Only this room opens a network connection."""
