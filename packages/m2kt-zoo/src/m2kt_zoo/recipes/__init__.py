"""Recipes that build the zoo: tiny teachers and students, seeded, in minutes on two cores.

``python -m m2kt_zoo.recipes.build`` builds everything; ``python -m m2kt_zoo.recipes.build secret`` builds one model.
Each recipe module declares what is special about its model (architecture, tokenizer, problems);
:mod:`m2kt_zoo.recipes.common` trains, measures and saves.
"""
