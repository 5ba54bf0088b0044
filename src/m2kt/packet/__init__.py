"""The knowledge packet: all that passes from a teacher to a student.

The format is specified in docs/format.md. Reading needs numpy, pydantic, YAML and cryptography, and loads no torch. A
packet is verified and checked completely before any of it is used.

    packet = Packet.load("addition.m2kp")                                          # verified and checked
    packet.replace(concepts=packet.concepts.replace(vectors_KD=v)).save("variant") # signed again
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    ProgramExecutor(packet.program)(prompt, lookup).completion                     # a rollout, at any size
"""

from m2kt.packet._bom import bill_of_materials as bill_of_materials
from m2kt.packet._card import without_html as without_html
from m2kt.packet._concepts import Concepts as Concepts
from m2kt.packet._decode import NearestPrototype as NearestPrototype
from m2kt.packet._decode import decode_outputs as decode_outputs
from m2kt.packet._decode import decoded_share as decoded_share
from m2kt.packet._decode import decodes_with_margin as decodes_with_margin
from m2kt.packet._decode import symbol_scores as symbol_scores
from m2kt.packet._describe import PacketDescription as PacketDescription
from m2kt.packet._describe import RowDescription as RowDescription
from m2kt.packet._describe import RuleDescription as RuleDescription
from m2kt.packet._describe import describe as describe
from m2kt.packet._describe import read_outputs as read_outputs
from m2kt.packet._diff import Change as Change
from m2kt.packet._diff import PacketDiff as PacketDiff
from m2kt.packet._diff import RuleDiff as RuleDiff
from m2kt.packet._diff import diff_packets as diff_packets
from m2kt.packet._json import canonical_json as canonical_json
from m2kt.packet._keys import PASSPHRASE as PASSPHRASE
from m2kt.packet._keys import KeyInfo as KeyInfo
from m2kt.packet._keys import is_locked as is_locked
from m2kt.packet._keys import key_path as key_path
from m2kt.packet._keys import list_keys as list_keys
from m2kt.packet._keys import local_key as local_key
from m2kt.packet._keys import new_key as new_key
from m2kt.packet._keys import read_signer as read_signer
from m2kt.packet._keys import show_key as show_key
from m2kt.packet._machine import Action as Action
from m2kt.packet._machine import Stuck as Stuck
from m2kt.packet._machine import Tape as Tape
from m2kt.packet._machine import compile_decision as compile_decision
from m2kt.packet._machine import compile_pointer as compile_pointer
from m2kt.packet._machine import fits as fits
from m2kt.packet._machine import name_of as name_of
from m2kt.packet._machine import plain as plain
from m2kt.packet._manifest import ConceptSource as ConceptSource
from m2kt.packet._manifest import Embedding as Embedding
from m2kt.packet._manifest import Fidelity as Fidelity
from m2kt.packet._manifest import Ledger as Ledger
from m2kt.packet._manifest import Manifest as Manifest
from m2kt.packet._manifest import ShapeFidelity as ShapeFidelity
from m2kt.packet._manifest import SizeFidelity as SizeFidelity
from m2kt.packet._manifest import TeacherCard as TeacherCard
from m2kt.packet._manifest import library_versions as library_versions
from m2kt.packet._packet import Packet as Packet
from m2kt.packet._pointers import Answer as Answer
from m2kt.packet._pointers import Back as Back
from m2kt.packet._pointers import Case as Case
from m2kt.packet._pointers import Count as Count
from m2kt.packet._pointers import Decision as Decision
from m2kt.packet._pointers import Equal as Equal
from m2kt.packet._pointers import Here as Here
from m2kt.packet._pointers import Kind as Kind
from m2kt.packet._pointers import Leaf as Leaf
from m2kt.packet._pointers import Mask as Mask
from m2kt.packet._pointers import Move as Move
from m2kt.packet._pointers import Order as Order
from m2kt.packet._pointers import Pointer as Pointer
from m2kt.packet._pointers import Question as Question
from m2kt.packet._pointers import Same as Same
from m2kt.packet._pointers import Seek as Seek
from m2kt.packet._pointers import Start as Start
from m2kt.packet._pointers import Test as Test
from m2kt.packet._pointers import Unit as Unit
from m2kt.packet._pointers import Value as Value
from m2kt.packet._pointers import WriteCopy as WriteCopy
from m2kt.packet._pointers import WriteLiteral as WriteLiteral
from m2kt.packet._pointers import WriteRule as WriteRule
from m2kt.packet._pointers import leaves as leaves
from m2kt.packet._policy import TrustedKey as TrustedKey
from m2kt.packet._policy import TrustPolicy as TrustPolicy
from m2kt.packet._program import START_STATE as START_STATE
from m2kt.packet._program import Granularity as Granularity
from m2kt.packet._program import Program as Program
from m2kt.packet._program import ProgramExecutor as ProgramExecutor
from m2kt.packet._program import Run as Run
from m2kt.packet._program import State as State
from m2kt.packet._program import finer_values as finer_values
from m2kt.packet._program import prompt_units as prompt_units
from m2kt.packet._program import state_name as state_name
from m2kt.packet._sign import Signature as Signature
from m2kt.packet._sign import cosign as cosign
from m2kt.packet._statement import EVALUATION as EVALUATION
from m2kt.packet._statement import RECEIPT as RECEIPT
from m2kt.packet._statement import VERDICT as VERDICT
from m2kt.packet._statement import Statement as Statement
from m2kt.packet._statement import read_statement as read_statement
from m2kt.packet._statement import sign_statement as sign_statement
from m2kt.packet._statement import verify_statement as verify_statement
from m2kt.packet._trace import FailureKind as FailureKind
from m2kt.packet._trace import HasRules as HasRules
from m2kt.packet._trace import OutputLookup as OutputLookup
from m2kt.packet._trace import RolloutFailure as RolloutFailure
from m2kt.packet._trace import Rule as Rule
from m2kt.packet._trace import Trace as Trace
from m2kt.packet._trace import TracedUnit as TracedUnit
from m2kt.packet._trace import fixed_lookup as fixed_lookup
from m2kt.packet._trace import verbalised_lookup as verbalised_lookup
from m2kt.packet._trust import TrustVerdict as TrustVerdict
from m2kt.packet._trust import judge_file as judge_file
from m2kt.packet._trust import judge_packet as judge_packet
from m2kt.packet._trust import judge_statement as judge_statement
from m2kt.packet._variants import PROTOTYPE_ROWS as PROTOTYPE_ROWS
from m2kt.packet._variants import noise as noise
from m2kt.packet._variants import shuffled as shuffled
from m2kt.packet._variants import without_verbalised as without_verbalised
