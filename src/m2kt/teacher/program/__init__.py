"""From traces to one program: candidate pointers, what they explain, and the states that need them.

    program_of(oracle, spec, config)        # ask, explain, ask again: a Skill

Files, each of which knows those above it: ``_traces`` (arrays and searches), ``_kinds`` (what searches stop at),
``_candidates`` (their store), ``_columns`` (candidate pointers), ``_tests`` (questions), ``_trees`` (control),
``_actions`` (copies and tables), ``_state`` (steps of one state), ``_switch`` (which of a few places),
``_explain`` (the explanation), ``_looks`` (loops), ``_induce`` (all states), ``_cut`` (units), ``_skill`` (the loop).
"""

from m2kt.teacher.program._induce import Induced as Induced
from m2kt.teacher.program._induce import Resisted as Resisted
from m2kt.teacher.program._skill import Confirmed as Confirmed
from m2kt.teacher.program._skill import Round as Round
from m2kt.teacher.program._skill import Skill as Skill
from m2kt.teacher.program._skill import Step as Step
from m2kt.teacher.program._skill import program_of as program_of
from m2kt.teacher.program._skill import roll_out_all as roll_out_all
