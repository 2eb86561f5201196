"""On the laptop: say what is wanted, see how it goes. Never reaches torch."""
