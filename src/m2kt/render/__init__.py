"""Pictures and pages of packets and measurements. Imports packets and probes, no model library.

Sections are made of blocks (tables, figures, tiles, notes); :func:`page` makes one self-contained HTML file of them,
:func:`to_markdown` tables. matplotlib and jinja2 (the extra ``m2kt[html]``) are imported when a page is made.
"""

from m2kt.render._attention import attention_blocks as attention_blocks
from m2kt.render._blocks import Block as Block
from m2kt.render._blocks import Cell as Cell
from m2kt.render._blocks import Figure as Figure
from m2kt.render._blocks import Note as Note
from m2kt.render._blocks import Row as Row
from m2kt.render._blocks import Section as Section
from m2kt.render._blocks import Table as Table
from m2kt.render._blocks import Tile as Tile
from m2kt.render._blocks import Tiles as Tiles
from m2kt.render._blocks import markdown_of as markdown_of
from m2kt.render._blocks import percent as percent
from m2kt.render._blocks import share_cell as share_cell
from m2kt.render._blocks import to_markdown as to_markdown
from m2kt.render._diff import diff_page as diff_page
from m2kt.render._diff import diff_sections as diff_sections
from m2kt.render._explain import DrawnUnit as DrawnUnit
from m2kt.render._explain import draw_answer as draw_answer
from m2kt.render._explain import explanation_page as explanation_page
from m2kt.render._explain import units_table as units_table
from m2kt.render._explain import visible as visible
from m2kt.render._figure import drawing as drawing
from m2kt.render._figure import inline_svg as inline_svg
from m2kt.render._graph import GraphSummary as GraphSummary
from m2kt.render._graph import summarise_graph as summarise_graph
from m2kt.render._map import draw_transfer_map as draw_transfer_map
from m2kt.render._merged import merged_blocks as merged_blocks
from m2kt.render._packet import CHART as CHART
from m2kt.render._packet import READING as READING
from m2kt.render._packet import fidelity_table as fidelity_table
from m2kt.render._packet import graph_blocks as graph_blocks
from m2kt.render._packet import ledger_table as ledger_table
from m2kt.render._packet import map_blocks as map_blocks
from m2kt.render._packet import packet_page as packet_page
from m2kt.render._packet import program_blocks as program_blocks
from m2kt.render._packet import rule_blocks as rule_blocks
from m2kt.render._page import blocks_html as blocks_html
from m2kt.render._page import page as page
from m2kt.render._page import save_page as save_page
from m2kt.render._page import stylesheet as stylesheet
from m2kt.render._states import draw_states as draw_states
from m2kt.render._states import state_chart as state_chart
from m2kt.render._text import LEGEND as LEGEND
from m2kt.render._text import MAX_ROWS as MAX_ROWS
from m2kt.render._text import Grid as Grid
from m2kt.render._text import output_text as output_text
from m2kt.render._text import rule_grids as rule_grids
from m2kt.render._text import rule_title as rule_title
from m2kt.render._text import shown as shown
from m2kt.render._theme import INK as INK
from m2kt.render._theme import LINE as LINE
from m2kt.render._theme import MUTED as MUTED
from m2kt.render._theme import series as series
from m2kt.render._words import leaf_text as leaf_text
from m2kt.render._words import pointer_text as pointer_text
from m2kt.render._words import state_text as state_text
