"""Recipes that build the zoo: tiny teachers and students, seeded, in minutes on two cores.

``python -m zoo.recipes.build`` builds everything; ``python -m zoo.recipes.build secret`` builds one model.
Each recipe module declares what is special about its model (architecture, tokenizer, problems);
:mod:`zoo.recipes.common` trains, measures and saves.
"""
