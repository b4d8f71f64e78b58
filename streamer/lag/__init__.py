"""How far the catalogue is behind the broker, in messages and in seconds, and how that will end."""
