"""The catalogue: twenty-two faults that hurt users of such services, each injected over real sockets."""
