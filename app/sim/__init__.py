"""A second implementation of the exchange, which shares nothing with the service but the codec."""
