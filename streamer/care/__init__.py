"""Care for the tables: what keeps a catalogue quick to read and small, beside live writers, without touching what it says."""
