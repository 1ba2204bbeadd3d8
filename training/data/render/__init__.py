"""Songs made here: General-MIDI files and generated accompaniment, rendered to stems."""
