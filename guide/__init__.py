"""How the embedded model of weights/guide is made: its corpus, its tokenizer, its examination, its model card."""
