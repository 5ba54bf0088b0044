"""Concept vectors: the teacher's state at the position that predicts a step, averaged over contexts.

Beside them, pools of *symbol states*: where the teacher is about to write a symbol as a mere copy. They label the
teacher's vectors with symbols without giving away a single rule. Legend: K concepts, S symbols, P pool, D width.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import ExtractionError
from m2kt.models import blocks
from m2kt.packet import Concepts, Graph, NearestPrototype, WriteCopy, WriteLiteral
from m2kt.probes import Unit
from m2kt.teacher._ask import Teacher
from m2kt.teacher._condense import Draft, leaf_rows, rule_uses
from m2kt.teacher._pool import Pool, Sample
from m2kt.teacher._probe import RidgeProbe, cross_validated
from m2kt.teacher._space import Space, in_front_of_head
from m2kt.teacher._states import IN_FRONT_OF_HEAD, Floats, Request, gather, sureness
from m2kt.teacher.sources import ConceptSource

Ints = NDArray[np.int32]
Mix = tuple[Request, ...]  # a pool state is the mean over these
CONTEXTS = 12  # a concept
SPARE = 36  # more of them, where none of the first is read as what the teacher wrote
POOL = 48  # states a symbol
ECHOES = 6  # states of a symbol that is never copied and has no other rows to be mixed of
SHOWN = 4  # other words that are repeated in front of each
ROWS_MIXED = 3  # rows whose states are averaged for a symbol that only rules write
PROBED = 2000  # states on which the layer is chosen, and at least 4 a concept
ASKED = 4  # contexts of a concept in which the teacher's probability of what it writes is looked at
SPREAD_RANK = 2
MAX_LAYERS_PROBED = 12
READ = 0.98  # share of rule states that symbol states must read, or the space in front of the head is tried


@dataclass
class Embedding:
    """Vectors of a packet, with how well they can be read."""

    space: Space
    vectors_KD: Floats
    support_K: Ints
    spread_basis_KrD: Floats
    spread_scale_Kr: Floats
    pool_PD: Floats
    pool_symbol_P: Ints
    anchors_SD: Floats
    anchor_count_S: Ints
    probe_accuracy: float  # cross-validated over concepts
    readout_accuracy: float  # symbol states alone read what the concept vectors write
    read_K: Ints  # what they read
    confidence_K: Floats  # the teacher's probability of what it writes, mean over contexts
    notes: list[str] = field(default_factory=list)

    def concepts(self) -> Concepts:
        """What the packet carries of it."""
        return Concepts(
            vectors_KD=self.vectors_KD,
            spread_basis_KrD=self.spread_basis_KrD,
            spread_scale_Kr=self.spread_scale_Kr,
            support_K=self.support_K,
            prototypes_SD=self.anchors_SD,
            prototype_count_S=self.anchor_count_S,
            prototype_samples_PD=self.pool_PD,
            prototype_symbol_P=self.pool_symbol_P,
        )


def embed(
    teacher: Teacher,
    pool: Pool,
    draft: Draft,
    graph: Graph,
    outputs: list[int],
    source: ConceptSource,
    *,
    seed: int,
) -> Embedding:
    """Chooses the space, then averages states over contexts."""
    rng = random.Random(f"embed/{seed}")
    found = _concept_requests(pool, draft, graph, rng)
    concept_requests = {k: requests[:CONTEXTS] for k, requests in found.items()}
    spare_requests = {k: requests[CONTEXTS:] for k, requests in found.items()}
    pool_requests, notes = _pool_requests(pool, draft, concept_requests, outputs, rng)
    space, probe_accuracy = _choose_space(teacher, concept_requests, pool_requests, outputs)
    if space.basis_DR is not None:
        notes.append(
            f"vectors are states in front of the teacher's head; the {space.basis_DR.shape[1]} directions by which it "
            "tells the skill's words apart are weighted"
        )
    k_total = graph.n_concepts

    flat_pool = [(s, mix) for s, mixes in sorted(pool_requests.items()) for mix in mixes]
    mixes = [mix for _, mix in flat_pool]
    pool_PD = space.symbols(_mixed(teacher, mixes, [space.place], "embedding symbols")[:, 0])
    pool_symbol = np.array([s for s, _ in flat_pool], dtype=np.int32)
    anchor_of = space.anchors(pool_PD, pool_symbol)
    counts = np.bincount(pool_symbol, minlength=len(graph.symbols)).astype(np.int32)  # of recorded ones
    pool_PD, pool_symbol = space.widened(pool_PD, pool_symbol, np.random.default_rng(seed))
    anchors = np.zeros((len(graph.symbols), pool_PD.shape[1]), dtype=np.float32)
    for s, anchor_D in anchor_of.items():
        anchors[s] = anchor_D
    reading = NearestPrototype(pool_PD, pool_symbol, anchors)

    flat = [(k, r) for k, requests in concept_requests.items() for r in requests]
    state_ND = space(gather(teacher, [r for _, r in flat], [space.place], "embedding concepts")[:, 0])
    # A context in which the symbol states read something else than the teacher wrote is a poor picture of the concept.
    clear_N = reading.predict(state_ND) == np.array([outputs[k] for k, _ in flat])
    unread = set(range(k_total)) - {k for (k, _), clear in zip(flat, clear_N, strict=True) if clear}
    more = [(k, r) for k in sorted(unread) for r in spare_requests[k]]
    if more:
        flat += more
        further_ND = space(gather(teacher, [r for _, r in more], [space.place], "more contexts")[:, 0])
        state_ND = np.concatenate([state_ND, further_ND])
        clear_N = reading.predict(state_ND) == np.array([outputs[k] for k, _ in flat])
    weight_N = source.weigh(teacher, [r for _, r in flat], space.layer)
    of_concept: dict[int, list[int]] = defaultdict(list)
    for i, (k, _) in enumerate(flat):
        of_concept[k].append(i)
    vectors_KD = np.zeros((k_total, state_ND.shape[1]), dtype=np.float32)
    support = np.zeros(k_total, dtype=np.int32)
    basis = np.zeros((k_total, SPREAD_RANK, state_ND.shape[1]), dtype=np.float32)
    scale = np.zeros((k_total, SPREAD_RANK), dtype=np.float32)
    for k in range(k_total):
        rows = np.array(of_concept[k])
        rows = (rows[clear_N[rows]] if clear_N[rows].any() else rows)[:CONTEXTS]
        w = weight_N[rows]
        vectors_KD[k] = (state_ND[rows] * w[:, None]).sum(0) / w.sum()
        support[k] = len(rows)
        basis[k], scale[k] = _spread(state_ND[rows] - vectors_KD[k])
    vectors_KD = source.refine(vectors_KD, np.array(outputs, dtype=np.int32), reading.direction_CD)

    read = reading.predict(vectors_KD)
    readout = float((read == np.array(outputs)).mean())
    if readout < 1.0:
        notes.append(
            f"{int((read != np.array(outputs)).sum())} concept vectors are misread by the symbol states"
        )
    return Embedding(
        space,
        vectors_KD.astype(np.float32),
        support,
        basis,
        scale,
        pool_PD,
        pool_symbol,
        anchors,
        counts,
        probe_accuracy,
        readout,
        read.astype(np.int32),
        _confidence(teacher, found),
        notes,
    )


def _confidence(teacher: Teacher, requests: dict[int, list[Request]]) -> Floats:
    """How sure the teacher is of each row: it writes what it holds likeliest, be that ever so unlikely.

    Rows share contexts as far as they can, for each is a pass.
    """
    flat: list[tuple[int, Request]] = []
    read: set[int] = set()
    for k, some in sorted(requests.items(), key=lambda own: len(own[1])):
        chosen = sorted(some, key=lambda r: id(r.sample) not in read)[:ASKED]
        read.update(id(r.sample) for r in chosen)
        flat += [(k, r) for r in chosen]
    sure_N = sureness(teacher, [r for _, r in flat], "asking how sure it is")
    k_N = np.array([k for k, _ in flat])
    mean_K: Floats = (np.bincount(k_N, sure_N) / np.bincount(k_N)).astype(np.float32)
    return mean_K


def _concept_requests(pool: Pool, draft: Draft, graph: Graph, rng: random.Random) -> dict[int, list[Request]]:
    """Up to CONTEXTS + SPARE samples in which each concept is at work, spread over places of the graph."""
    live = sorted({use.leaf.rule for use in rule_uses(pool, draft.decisions)})
    number = {old: new for new, old in enumerate(live)}
    row_index = graph.row_index()
    places: dict[int, list[Request]] = defaultdict(list)
    for use in rule_uses(pool, draft.decisions):
        rule = graph.rules[number[use.leaf.rule]]
        drafted = draft.book.rules[use.leaf.rule]
        shape = pool.shapes[use.template]
        depth = shape.nodes[use.node].depth
        triples = zip(
            use.samples.tolist(), map(tuple, use.arguments_NA.tolist()), use.outputs_N.tolist(), strict=True
        )
        for sample, arguments, output in triples:
            if drafted.says(arguments) == output:  # a slip of the teacher is no context of the concept
                k = rule.offset + row_index[number[use.leaf.rule]][arguments]
                places[k].append(Request(shape.samples[sample], depth))
    return {k: _spread_out(places[k], CONTEXTS + SPARE, rng) for k in range(graph.n_concepts)}


def _spread_out(requests: list[Request], n: int, rng: random.Random) -> list[Request]:
    """Up to ``n``, from each place of the graph in turn: long answers must not crowd out short ones."""
    by_place: dict[tuple[int, int], list[Request]] = defaultdict(list)
    for request in rng.sample(requests, len(requests)):
        by_place[request.sample.prompt.template, request.unit].append(request)
    ranked = [(i, place, r) for place, some in by_place.items() for i, r in enumerate(some)]
    return [r for _, _, r in sorted(ranked, key=lambda x: x[:2])[:n]]


def _pool_requests(
    pool: Pool, draft: Draft, concepts: dict[int, list[Request]], outputs: list[int], rng: random.Random
) -> tuple[dict[int, list[Mix]], list[str]]:
    """Up to POOL states of each symbol, taken where no rule is at work: copies, else symbols that never vary.

    A symbol that only rules write is said. Its states are means over steps of *different* rows: no row's own vector
    stands in the pool with its output beside it. Where that would leave one row alone, and of facts, it is echoed.
    """
    places: dict[type, dict[int, list[Request]]] = {
        WriteCopy: defaultdict(list),
        WriteLiteral: defaultdict(list),
    }
    for (template, node), decision in draft.decisions.items():
        shape = pool.shapes[template]
        trie = shape.nodes[node]
        columns = shape.columns(node)
        for leaf, rows in leaf_rows(decision, columns, np.arange(len(columns))):
            if type(leaf) in places:
                for row in rows.tolist():
                    index = trie.samples[row]
                    symbol = int(shape.symbols_NP[index, trie.depth])
                    if symbol >= 0:
                        places[type(leaf)][symbol].append(Request(shape.samples[index], trie.depth))
    found = {**places[WriteLiteral], **places[WriteCopy]}
    chosen: dict[int, list[Mix]] = {
        s: [(r,) for r in _spread_out(some, POOL, rng)] for s, some in found.items()
    }
    notes = []
    # With one row its mean would be the row's own vector; of facts, rows that share an answer would be few, too.
    ruled = sorted(set(outputs) - set(chosen))
    alone = [s for s in ruled if outputs.count(s) == 1 or pool.spec.facts]
    words = [pool.symbols[s] for s in sorted(set(outputs))]
    for s in alone:
        said = rng.choice(concepts[outputs.index(s)])
        chosen[s] = [(request,) for request in _echoes(pool, said, words, rng)]
    if alone:
        notes.append(
            f"{len(alone)} symbols are never copied, and written by one row only or as facts ({_few(pool, alone)}): "
            "their symbol states are of repeating them in the form of their row"
        )
    lacking = sorted(set(outputs) - set(chosen))
    if lacking:
        notes.append(
            f"{len(lacking)} symbols are written by rules only ({_few(pool, lacking)}): their symbol states are means "
            f"over steps of {ROWS_MIXED} rows"
        )
    for s in lacking:
        writing = [requests for k, requests in concepts.items() if outputs[k] == s]
        drawn = [rng.sample(writing, min(ROWS_MIXED, len(writing))) for _ in range(POOL)]
        chosen[s] = [tuple(rng.choice(requests) for requests in some) for some in drawn]
    if not chosen:
        raise ExtractionError("no step copies or computes a symbol: there is nothing to embed")
    return chosen, notes


def _echoes(pool: Pool, said: Request, words: list[str], rng: random.Random) -> list[Request]:
    """Where a symbol is about to be repeated, in the form of its row: "The capital of Lima is Lima", and so on.

    A few words that are asked and answered by themselves, then the symbol's own question: the teacher copies, so the
    state says the symbol and nothing of its row. With the row's own argument it would answer what it knows.
    """
    answer = said.sample.units[said.unit :]
    word = answer[0].symbol or ""
    others = [w for w in words if w != word]

    def line(word: str, units: list[Unit]) -> str:
        return "".join(u.text if u.symbol is None else u.lead + word for u in units)

    def question(word: str) -> str:
        """Without the examples that a prompt may begin with."""
        return line(word, said.sample.units[: said.unit]).rpartition(pool.spec.stop)[2]

    found = []
    for _ in range(ECHOES):
        shown = rng.sample(others, min(SHOWN, len(others)))
        context = Unit("".join(question(w) + line(w, answer) for w in shown) + question(word))
        found.append(Request(Sample(said.sample.prompt, [context, *answer], 1), 1))
    return found


def _few(pool: Pool, symbols: list[int]) -> str:
    return ", ".join(pool.symbols[s] for s in symbols[:12])


def _mixed(teacher: Teacher, mixes: list[Mix], layers: list[int], stage: str) -> Floats:
    """Mean states of mixes: (N, L, D)."""
    owner_R = np.repeat(np.arange(len(mixes)), [len(mix) for mix in mixes])
    state_RLD = gather(teacher, [r for mix in mixes for r in mix], layers, stage)
    sums_NLD = np.zeros((len(mixes), *state_RLD.shape[1:]), dtype=np.float32)
    np.add.at(sums_NLD, owner_R, state_RLD)
    means: Floats = (sums_NLD / np.bincount(owner_R)[:, None, None]).astype(np.float32)
    return means


def _choose_space(
    teacher: Teacher, concepts: dict[int, list[Request]], pools: dict[int, list[Mix]], outputs: list[int]
) -> tuple[Space, float]:
    """The layer whose states say best what comes next: cross-validated over concepts, and read by symbol states.

    Where symbol states read no layer well, the space in front of the head is compared with the best one.
    """
    depth = len(blocks(teacher.model))
    layers = sorted({round(i) for i in np.linspace(1, depth, min(depth, MAX_LAYERS_PROBED)).tolist()})
    each = max(4, PROBED // len(concepts))
    flat = [(k, r) for k, requests in concepts.items() for r in requests[:each]]
    flat_pool = [(s, mix) for s, mixes in pools.items() for mix in mixes[:16]]
    places = [*layers, IN_FRONT_OF_HEAD]
    x_NLD = gather(teacher, [r for _, r in flat], places, "choosing the layer")
    pool_NLD = _mixed(teacher, [mix for _, mix in flat_pool], places, "choosing the layer: symbols")
    group = np.array([k for k, _ in flat], dtype=np.int32)
    y = np.array([outputs[k] for k, _ in flat], dtype=np.int32)
    pool_y = np.array([s for s, _ in flat_pool], dtype=np.int32)

    def judged(i: int, space: Space) -> tuple[float, int, float, float, Space]:
        x_ND = space(x_NLD[:, i])
        own = cross_validated(x_ND, y, group)
        probe = RidgeProbe(*space.widened(space.symbols(pool_NLD[:, i]), pool_y, np.random.default_rng(0)))
        read = float((probe.predict(x_ND) == y).mean())
        return round(np.nan_to_num(own) + read, 3), space.layer, own, read, space

    best = max((judged(i, Space(layer)) for i, layer in enumerate(layers)), key=lambda found: found[:2])
    if best[3] < READ:
        head = in_front_of_head(teacher, depth, _spelling(teacher, pools))
        if head is not None:
            best = max(best, judged(len(layers), head), key=lambda found: found[0])
    return best[4], best[2]


def _spelling(teacher: Teacher, pools: dict[int, list[Mix]]) -> dict[int, list[int]]:
    """The tokens with which the teacher writes each symbol, a bare leading space apart."""
    found = {}
    for symbol, mixes in pools.items():
        request = mixes[0][0]
        forced = teacher.force(request.sample.texts, request.sample.n_prompt)
        found[symbol] = [forced.ids[t] for t in forced.content[request.unit]]
    return found


def _spread(deviations_ND: Floats) -> tuple[Floats, Floats]:
    """Low-rank covariance: principal directions (r, D) and standard deviations (r,) around the centroid."""
    d = deviations_ND.shape[1]
    basis = np.zeros((SPREAD_RANK, d), dtype=np.float32)
    scale = np.zeros(SPREAD_RANK, dtype=np.float32)
    if len(deviations_ND) > 1:
        _, s, vt = np.linalg.svd(deviations_ND, full_matrices=False)
        r = min(SPREAD_RANK, len(s))
        basis[:r] = vt[:r]
        scale[:r] = s[:r] / np.sqrt(len(deviations_ND) - 1)
    return basis, scale
