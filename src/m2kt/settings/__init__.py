"""What a user may set, as pydantic models: the student side and the thresholds of the verdict. Loads no torch."""

from m2kt.settings._student import Depth as Depth
from m2kt.settings._student import LossSettings as LossSettings
from m2kt.settings._student import OptimiserSettings as OptimiserSettings
from m2kt.settings._student import ProjectorSettings as ProjectorSettings
from m2kt.settings._student import ReaderSettings as ReaderSettings
from m2kt.settings._student import RehearsalSettings as RehearsalSettings
from m2kt.settings._student import SteeringSettings as SteeringSettings
from m2kt.settings._student import StudentSettings as StudentSettings
from m2kt.settings._thresholds import Thresholds as Thresholds
