"""The loss with its parts in and out, over several seeds: many trainings, and the table of them."""
