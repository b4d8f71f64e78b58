"""What a message is: its framing, its schema, whose packet it is. For people, one message at a time."""
