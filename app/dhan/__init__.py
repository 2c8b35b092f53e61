"""DhanHQ: bytes, limits, policy, connections, credentials."""
