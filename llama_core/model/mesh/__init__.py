"""A model over several devices: which arrays are cut, where the parts lie, what joins them. Part of the room above."""
