"""A model over several devices: which arrays are cut, where the parts lie, what joins them; part of the folder above."""
