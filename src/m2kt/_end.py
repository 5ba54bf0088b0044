"""The unit that ends an answer by a token of the model. It is in no text: each model has an end token of its own."""

END = "\u0004"
