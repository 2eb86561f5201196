"""What makes images: models in memory, one batch in, pixels out (the only users of torch and diffusers)."""
