"""The card of a model: one page for people, made of what is kept with the model."""
