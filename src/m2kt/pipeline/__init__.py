"""The verbs as functions: extract, sign, preflight, ingest, audit, commit or roll back, evaluate.

Every function does what the CLI verb of its name does and returns a typed result, whose ``report()`` is the JSON of
``--json``. Importing this package loads no torch: a function imports the models, teacher and student when it is called.
"""

from m2kt.pipeline._adapters import Rollback as Rollback
from m2kt.pipeline._adapters import State as State
from m2kt.pipeline._adapters import adapter_digest as adapter_digest
from m2kt.pipeline._adapters import rollback as rollback
from m2kt.pipeline._adapters import states as states
from m2kt.pipeline._attest import Attestation as Attestation
from m2kt.pipeline._attest import attest as attest
from m2kt.pipeline._audit import audit as audit
from m2kt.pipeline._audit import audit_texts as audit_texts
from m2kt.pipeline._chain import Chained as Chained
from m2kt.pipeline._chain import chain as chain
from m2kt.pipeline._config import DEFAULT_UPDATES as DEFAULT_UPDATES
from m2kt.pipeline._config import IngestConfig as IngestConfig
from m2kt.pipeline._consolidate import consolidate as consolidate
from m2kt.pipeline._demo import DemoResult as DemoResult
from m2kt.pipeline._demo import DemoRow as DemoRow
from m2kt.pipeline._demo import demo as demo
from m2kt.pipeline._encrypt import Encrypted as Encrypted
from m2kt.pipeline._encrypt import decrypt as decrypt
from m2kt.pipeline._encrypt import encrypt as encrypt
from m2kt.pipeline._evaluate import evaluate as evaluate
from m2kt.pipeline._explain import Explanation as Explanation
from m2kt.pipeline._explain import ExplanationCheck as ExplanationCheck
from m2kt.pipeline._explain import check_explanations as check_explanations
from m2kt.pipeline._explain import explain as explain
from m2kt.pipeline._export import export as export
from m2kt.pipeline._extract import extract as extract
from m2kt.pipeline._forget import Forgetting as Forgetting
from m2kt.pipeline._forget import forget as forget
from m2kt.pipeline._ingest import ingest as ingest
from m2kt.pipeline._inputs import evaluation_prompts as evaluation_prompts
from m2kt.pipeline._inputs import read_spec as read_spec
from m2kt.pipeline._inputs import with_adapter as with_adapter
from m2kt.pipeline._inspect import Inspection as Inspection
from m2kt.pipeline._inspect import diff as diff
from m2kt.pipeline._inspect import inspect as inspect
from m2kt.pipeline._merge import Merging as Merging
from m2kt.pipeline._merge import merge as merge
from m2kt.pipeline._merge import unmerge as unmerge
from m2kt.pipeline._preflight import preflight as preflight
from m2kt.pipeline._report import Progress as Progress
from m2kt.pipeline._report import Report as Report
from m2kt.pipeline._report import Result as Result
from m2kt.pipeline._results import AuditResult as AuditResult
from m2kt.pipeline._results import Consolidation as Consolidation
from m2kt.pipeline._results import EvaluateResult as EvaluateResult
from m2kt.pipeline._results import ExportResult as ExportResult
from m2kt.pipeline._results import Extraction as Extraction
from m2kt.pipeline._results import Ingestion as Ingestion
from m2kt.pipeline._results import PreflightResult as PreflightResult
from m2kt.pipeline._statements import PREDICATES as PREDICATES
from m2kt.pipeline._statements import Signed as Signed
from m2kt.pipeline._statements import key_file as key_file
from m2kt.pipeline._statements import schemas as schemas
from m2kt.pipeline._statements import sign as sign
from m2kt.pipeline._statements import signed as signed
from m2kt.pipeline._statements import verify as verify
from m2kt.pipeline._statements import verify_adapter as verify_adapter
from m2kt.pipeline._statements import write_file as write_file
