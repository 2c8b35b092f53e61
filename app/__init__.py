"""Broking Terminal V2: market-data subscriptions for a desk on DhanHQ."""
