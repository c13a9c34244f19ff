"""Stand-ins for deployed peers: a backend and a client that know only what is documented."""
