"""Makes the images of the languages."""
