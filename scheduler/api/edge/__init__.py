"""Between the network and the routes: connections, authentication, rates, bodies, headers."""
