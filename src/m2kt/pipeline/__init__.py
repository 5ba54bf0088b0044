"""The one room that knows the others: extract, sign, preflight, ingest, audit, commit or roll back, evaluate.

Every function does what the CLI verb of its name does and returns a pydantic model; heavy libraries are imported when
a function is called.
"""

from m2kt.pipeline._adapters import State as State
from m2kt.pipeline._adapters import adapter_digest as adapter_digest
from m2kt.pipeline._adapters import rollback as rollback
from m2kt.pipeline._adapters import states as states
from m2kt.pipeline._audit import audit as audit
from m2kt.pipeline._config import DEFAULT_UPDATES as DEFAULT_UPDATES
from m2kt.pipeline._config import IngestConfig as IngestConfig
from m2kt.pipeline._consolidate import consolidate as consolidate
from m2kt.pipeline._demo import demo as demo
from m2kt.pipeline._evaluate import evaluate as evaluate
from m2kt.pipeline._export import export as export
from m2kt.pipeline._extract import extract as extract
from m2kt.pipeline._extract import extract_packet as extract_packet
from m2kt.pipeline._ingest import ingest as ingest
from m2kt.pipeline._inputs import evaluation_prompts as evaluation_prompts
from m2kt.pipeline._inputs import read_spec as read_spec
from m2kt.pipeline._inputs import with_adapter as with_adapter
from m2kt.pipeline._preflight import preflight as preflight
from m2kt.pipeline._results import AuditResult as AuditResult
from m2kt.pipeline._results import ConsolidateResult as ConsolidateResult
from m2kt.pipeline._results import DemoResult as DemoResult
from m2kt.pipeline._results import DemoRow as DemoRow
from m2kt.pipeline._results import EvaluateResult as EvaluateResult
from m2kt.pipeline._results import ExportResult as ExportResult
from m2kt.pipeline._results import ExtractResult as ExtractResult
from m2kt.pipeline._results import IngestResult as IngestResult
from m2kt.pipeline._results import PreflightResult as PreflightResult
from m2kt.pipeline._results import Progress as Progress
from m2kt.pipeline._statements import PREDICATES as PREDICATES
from m2kt.pipeline._statements import about as about
from m2kt.pipeline._statements import schemas as schemas
from m2kt.pipeline._statements import signed as signed
from m2kt.pipeline._statements import verify_adapter as verify_adapter
from m2kt.pipeline._statements import write_file as write_file
