"""From traces to one program: candidate pointers, what they explain, and the states that need them."""
