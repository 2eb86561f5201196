"""How the demo's model came to be: captions, drawings of them, training, and a measure of what was learned."""
