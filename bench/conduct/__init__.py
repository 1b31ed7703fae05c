"""How gateways behave when something fails, as the client and the server see it."""
